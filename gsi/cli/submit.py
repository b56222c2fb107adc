"""``gsi submit``, ``gsi follow`` and ``gsi result``: push jobs, and read their steps and answers."""

import sys
from collections.abc import Iterable
from itertools import chain
from typing import Annotated, Any

import typer

from gsi.cli import render
from gsi.cli.job_file import check_with, keep_all, read_jobs
from gsi.cli.terminal import (
    EXIT_FAILED,
    Param,
    Queue,
    RedisUrl,
    err,
    explain_errors,
    out,
    print_json,
    read_params,
    run,
)
from gsi.client.sdk import DEFAULT_QUEUE, DEFAULT_REDIS_URL, AsyncClient
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
    async with AsyncClient(redis_url, queue) as client:
        async for job_id in client.submit_many(jobs):
            print(job_id)
            if is_followed:
                ids.append(job_id)
        sys.stdout.flush()
        return [await _show_steps(client, job_id) for job_id in ids]


def follow(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Show a job's steps as they are kept, until the job has finished."""

    async def show() -> None:
        async with AsyncClient(redis_url, queue) as client:
            if not await client.exists(job_id):
                err.print(f"waiting for job {job_id}: it was never pushed, or no coordinator has taken it yet")
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
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: Annotated[bool, typer.Option("--json", help="The whole record as one JSON object.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has finished.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Show a job's answer; exit 1 if the job ended without an answer."""

    async def fetch() -> Any:
        async with AsyncClient(redis_url, queue) as client:
            return await client.wait(job_id) if wait else await client.result(job_id)

    with explain_errors():
        record = run(fetch())
        if as_json:
            print_json(record.to_dict())
        else:
            out.print(record.fields.get("text", "").rstrip(), markup=False, highlight=False, soft_wrap=True)
            err.print(render.render_end(record), soft_wrap=True)
        if record.state.is_finished and record.state != "SUCCEEDED":
            raise typer.Exit(EXIT_FAILED)
