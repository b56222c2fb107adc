"""``gsi run``: the jobs of a file, and a result for each line. The queue keeps what was done, so it resumes."""

import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Annotated, TextIO

import typer

from gsi.cli.job_file import keep_all, read_jobs
from gsi.cli.terminal import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Param,
    Queue,
    RedisUrl,
    connect,
    err,
    explain_errors,
    format_json,
    read_params,
    run,
)
from gsi.client.progress import job_progress
from gsi.client.sdk import DEFAULT_IN_FLIGHT, DEFAULT_QUEUE, DEFAULT_REDIS_URL, AsyncClient
from gsi.jobs.payload import JobPayload
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.jobs.submission import Submission, digest_question

LOOKED_AT = 500  # states in a round trip


def run_file(
    file: Annotated[str, typer.Argument(help='JSONL, a payload {"prompt": …} a line; "-" is standard input.')],
    out_file: Annotated[
        Path | None, typer.Option("--out", "-o", help="File for the results. [default: standard output]")
    ] = None,
    param: Param = None,
    as_completed: Annotated[
        bool, typer.Option("--as-completed", help="Write each result when it is there, not in the file's order.")
    ] = False,
    has_steps: Annotated[bool, typer.Option("--steps", help="Write the kept steps, too.")] = False,
    max_in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, max=100_000, help="The most jobs in the queue at once.")
    ] = DEFAULT_IN_FLIGHT,
    name: Annotated[str, typer.Option(help="Of this run: another name runs the lines without an id again.")] = "",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the jobs again that ended without an answer.")
    ] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Run a file's jobs; write a result for each line. The same command resumes. Exit 1 if a line has no answer."""
    with explain_errors(), ExitStack() as stack:
        lines = _Lines(name)
        jobs = stack.enter_context(keep_all(lines.number(read_jobs(file, read_params(param), lines.name_job))))
        target = sys.stdout if out_file is None else stack.enter_context(out_file.open("w", encoding="utf-8"))
        written = _Written(target, lines, has_steps=has_steps)

        async def work() -> None:
            async with connect(redis_url, queue) as client:
                await _look_at_earlier(client, list(lines.places), retry_failed=retry_failed)
                with job_progress(lines.num_jobs, err, is_shown=not target.isatty()) as advance:
                    ran = client.map(jobs, is_ordered=not as_completed, max_in_flight=max_in_flight)
                    async for record in ran:
                        written.write(record)
                        advance(record)

        try:
            run(work())
        except KeyboardInterrupt:
            said = f"stopped: {written.num_written} of {lines.num_jobs} results are written; the same command resumes"
            err.print(said, highlight=False, soft_wrap=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        if written.num_failed:
            err.print(f"{written.num_failed} of {lines.num_jobs} jobs ended without an answer", highlight=False)
            raise typer.Exit(EXIT_FAILED)


async def _look_at_earlier(client: AsyncClient, job_ids: Sequence[str], *, retry_failed: bool) -> None:
    """Say how many jobs have finished before; delete those that ended without an answer if they are to run again."""
    ids, finished = iter(job_ids), list[tuple[str, JobState]]()
    while group := list(islice(ids, LOOKED_AT)):
        states = zip(group, await client.states(group), strict=True)
        finished += [(job_id, state) for job_id, state in states if state is not None and state.is_finished]
    failed = [job_id for job_id, state in finished if state is not JobState.SUCCEEDED]
    num_done = len(finished)
    if retry_failed:
        num_done -= sum([await client.forget(job_id) for job_id in failed])
    if num_done:
        err.print(f"resuming: {num_done} of {len(job_ids)} jobs have finished before", highlight=False, soft_wrap=True)


class _Lines:
    """Which of a file's jobs each id is. A line without an id gets one that is made of the line: it runs once."""

    def __init__(self, name: str) -> None:
        self.num_jobs = 0
        self.places: dict[str, deque[int]] = defaultdict(deque)  # by id, from 0
        self._name = name
        self._alike: dict[str, int] = defaultdict(int)  # how many lines have asked the same

    def name_job(self, payload: JobPayload) -> str:
        digest = digest_question(payload)
        self._alike[digest] += 1
        written = f"{self._name}\n{digest}\n{self._alike[digest]}"
        return f"run-{blake2b(written.encode(), digest_size=12).hexdigest()}"

    def number(self, jobs: Iterable[Submission]) -> Iterator[Submission]:
        for job in jobs:
            self.places[job.job_id].append(self.num_jobs)
            self.num_jobs += 1
            yield job


class _Written:
    """Writes results, each on a line, with its job's place in the file."""

    def __init__(self, target: TextIO, lines: _Lines, *, has_steps: bool) -> None:
        self.num_written = self.num_failed = 0
        self._target = target
        self._lines = lines
        self._has_steps = has_steps

    def write(self, record: JobRecord) -> None:
        said = record.to_dict()
        if not self._has_steps:
            said.pop("steps", None)
        places = self._lines.places.get(record.id)  # none: another job had its idempotency key before
        index = places.popleft() if places else None
        self._target.write(format_json({"index": index, **said}, self._target.encoding) + "\n")
        self._target.flush()
        self.num_written += 1
        self.num_failed += not record.has_succeeded
