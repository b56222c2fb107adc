"""``gsi submit``, ``gsi follow`` and ``gsi result``: push jobs, and read their steps and answers."""

import sys
from collections.abc import Iterable
from itertools import chain
from typing import Annotated

import typer
from rich.text import Text

from gsi.cli import render
from gsi.cli.job_file import check_with, keep_all, read_jobs
from gsi.cli.terminal import (
    EXIT_FAILED,
    EXIT_USAGE,
    Param,
    Queue,
    RedisUrl,
    connect,
    err,
    explain_errors,
    out,
    print_json,
    read_params,
    run,
)
from gsi.client.sdk import DEFAULT_QUEUE, DEFAULT_REDIS_URL, AsyncClient
from gsi.jobs.errors import UnknownJobError
from gsi.jobs.reader import JobRecord
from gsi.jobs.submission import Submission


def submit(
    prompts: Annotated[list[str] | None, typer.Argument(help="One job for each prompt.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help='JSONL, a payload {"prompt": …} a line; "-" is standard input.')
    ] = None,
    param: Param = None,
    is_followed: Annotated[
        bool, typer.Option("--follow", help="Show each job's steps until the job ends; exit 1 if a job has no answer.")
    ] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Push jobs and print their ids, one on each line. If a job is invalid, no job is pushed."""
    with explain_errors():
        params = read_params(param)
        given = (check_with(params, {"prompt": prompt}) for prompt in prompts or [])
        with keep_all(chain(given, read_jobs(file, params) if file else ())) as jobs:
            records = run(_push(jobs, redis_url, queue, is_followed=is_followed))
        if any(record.state != "SUCCEEDED" for record in records):
            raise typer.Exit(EXIT_FAILED)


async def _push(jobs: Iterable[Submission], redis_url: str, queue: str, *, is_followed: bool) -> list[JobRecord]:
    """Push jobs and print each id; if they are followed, show their steps and return their records."""
    ids = []
    async with connect(redis_url, queue) as client:
        async for job_id in client.submit_many(jobs):
            print(job_id)
            if is_followed:
                ids.append(job_id)
        sys.stdout.flush()
        await client.tell_obstacle()
        return [await _show_steps(client, job_id) for job_id in ids]


def follow(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Show a job's steps as they are kept, until the job has finished."""

    async def show() -> None:
        async with connect(redis_url, queue) as client:
            await _show_steps(client, job_id)

    with explain_errors():
        run(show())


async def _show_steps(client: AsyncClient, job_id: str) -> JobRecord:
    """Print a job's steps as they are kept, and how it ended; return its record."""
    async for step in client.follow(job_id):
        out.print(render.render_step(step), soft_wrap=True)
    record = await client.result(job_id)
    out.print(render.render_end(record), soft_wrap=True)
    return record


def result(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID…", help='Ids of jobs; "-": from standard input.')],
    as_json: Annotated[bool, typer.Option("--json", help="Each whole record as one JSON object on a line.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the jobs have finished.")] = False,
    timeout_seconds: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="The longest wait for each job.")
    ] = None,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Show the answers of jobs in the order given; exit 1 if one has no answer, 2 if one is unknown."""

    async def show() -> int:
        ids = [word for given in job_ids for word in (sys.stdin.read().split() if given == "-" else [given])]
        async with connect(redis_url, queue) as client:
            return max([await _show_result(client, each, as_json, wait, timeout_seconds) for each in ids], default=0)

    with explain_errors():
        if code := run(show()):
            raise typer.Exit(code)


async def _show_result(
    client: AsyncClient, job_id: str, as_json: bool, wait: bool, timeout_seconds: float | None
) -> int:
    """Print a job's answer as soon as it is there; return the exit code that it asks for."""
    try:
        record = await client.wait(job_id, timeout_seconds) if wait else await client.result(job_id)
    except UnknownJobError as error:
        err.print(Text.assemble(("refused", "red"), f"  {error}"), highlight=False, soft_wrap=True)
        return EXIT_USAGE
    if as_json:
        print_json(record.to_dict())
    else:
        out.print(record.text.rstrip(), markup=False, highlight=False, soft_wrap=True)
        err.print(render.render_end(record), soft_wrap=True)
    return EXIT_FAILED if record.state.is_finished and not record.has_succeeded else 0
