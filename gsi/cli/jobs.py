"""``gsi jobs``, ``gsi cancel`` and ``gsi dead``: list jobs; cancel one; list, show, retry and purge dead jobs."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from gsi.cli import render
from gsi.cli.terminal import (
    EXIT_FAILED,
    Queue,
    RedisUrl,
    connect,
    err,
    explain_errors,
    import_top,
    out,
    print_json,
    run,
)
from gsi.client.sdk import DEFAULT_QUEUE, DEFAULT_REDIS_URL, AsyncClient
from gsi.errors import InvalidRequestError
from gsi.jobs.dead_letters import DeadLetter
from gsi.jobs.state import JobState

T = TypeVar("T")

JobId = Annotated[str, typer.Argument(metavar="ID")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]

dead = typer.Typer(no_args_is_help=True, help="Dead jobs: jobs that failed too many times.")


def ask_queue(redis_url: str, queue: str, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Do some work with a client of the queue. An error that a user can mend becomes one line and an exit code."""

    async def ask() -> T:
        async with connect(redis_url, queue) as client:
            return await work(client)

    with explain_errors():
        answer: T = run(ask())
        return answer


def cancel(
    job_id: JobId,
    reason: Annotated[str, typer.Option(help="Reason, which becomes the job's error.")] = "cancelled by gsi cancel",
    may_be_unseen: Annotated[
        bool,
        typer.Option("--unseen", help="The job may have been pushed by XADD and not been taken by a coordinator yet."),
    ] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Cancel a job and keep its steps. Exit 1 if the job had finished."""
    state = ask_queue(redis_url, queue, lambda client: client.cancel(job_id, reason, may_be_unseen=may_be_unseen))
    if state.is_finished:
        err.print(f"job {job_id} had finished already: {state}", markup=False, highlight=False)
        raise typer.Exit(EXIT_FAILED)
    what = "cancelled" if state is JobState.QUEUED else "is running, and was asked to stop: it does within a second"
    err.print(f"job {job_id} {what}", markup=False, highlight=False)


def list_jobs(
    state: Annotated[JobState | None, typer.Option(help="Jobs in this state alone.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(help="The most jobs that are listed.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object on each line.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """List the newest jobs of a queue, the last submitted first."""
    jobs = ask_queue(redis_url, queue, lambda client: client.jobs(state, limit))
    if as_json:
        for job in jobs:
            print_json(asdict(job))
    elif jobs:
        out.print(render.render_jobs(jobs, time.time()))
    else:
        err.print("no jobs")


def top(redis_url: RedisUrl = DEFAULT_REDIS_URL, queue: Queue = DEFAULT_QUEUE) -> None:
    """Show a queue live in the terminal: counts, coordinators, jobs; cancel, retry, pause."""

    async def show(client: AsyncClient) -> None:
        await client.is_served()  # a server that is away is named before the screen is taken
        await import_top().Top(client, queue).run_async()

    ask_queue(redis_url, queue, show)


@dead.command("list")
def list_letters(
    as_json: AsJson = False, redis_url: RedisUrl = DEFAULT_REDIS_URL, queue: Queue = DEFAULT_QUEUE
) -> None:
    """List dead jobs, oldest first: id, time, reason, last error."""

    async def read(client: AsyncClient) -> list[DeadLetter]:
        return [letter async for letter in client.dead.letters()]

    letters = ask_queue(redis_url, queue, read)
    if as_json:
        print_json([_to_dict(letter) for letter in letters])
    elif letters:
        out.print(render.render_dead_jobs(letters))
    else:
        err.print("no dead jobs")


@dead.command()
def show(
    job_id: JobId, as_json: AsJson = False, redis_url: RedisUrl = DEFAULT_REDIS_URL, queue: Queue = DEFAULT_QUEUE
) -> None:
    """Show a dead job: its payload, the reason, and its kept steps."""
    record = ask_queue(redis_url, queue, lambda client: client.dead.show(job_id))
    if as_json:
        told = {name: record.fields.get(name) for name in ("dead_reason", "last_error", "payload")}
        print_json(record.to_dict() | told)
        return
    out.print(render.render_end(record), soft_wrap=True)
    out.print(record.fields.get("payload", ""), markup=False, highlight=False, soft_wrap=True)
    for step in record.steps:
        out.print(render.render_step(step), soft_wrap=True)


@dead.command()
def retry(
    job_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Every dead job.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Push a dead job again. It resumes after its kept steps; its attempts and its deadline start from zero."""

    async def again(client: AsyncClient) -> int:
        if (job_id is None) != is_all:
            raise InvalidRequestError("dead retry: allowed: either an ID or --all")
        if job_id is None:
            return await client.dead.retry_all()
        await client.dead.retry(job_id)
        return 1

    err.print(f"{ask_queue(redis_url, queue, again)} pushed again", highlight=False)


@dead.command()
def purge(
    before: Annotated[
        datetime | None,
        typer.Option(help="Jobs that died before this time (UTC).", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Every dead job.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Delete dead jobs with their steps."""

    async def delete(client: AsyncClient) -> int:
        if (before is None) != is_all:
            raise InvalidRequestError("dead purge: allowed: either --before TIME or --all")
        return await client.dead.purge(None if before is None else before.replace(tzinfo=UTC))

    err.print(f"{ask_queue(redis_url, queue, delete)} deleted", highlight=False)


def _to_dict(letter: DeadLetter) -> dict[str, Any]:
    return {"id": letter.job_id, "died_at": letter.died_at, "reason": letter.reason, "error": letter.error}
