"""Run many jobs with a bounded number of them in the queue."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from itertools import islice

from gsi.client.notices import Notify
from gsi.errors import InvalidRequestError
from gsi.jobs.completions import Completions
from gsi.jobs.errors import QueueFullError
from gsi.jobs.reader import JobRecord
from gsi.jobs.submission import Submission
from gsi.jobs.submitter import JobSubmitter


async def map_jobs(
    submitter: JobSubmitter,
    completions: Completions,
    jobs: Iterable[Submission],
    notify: Notify,
    max_in_flight: int,
    *,
    is_ordered: bool,
) -> AsyncGenerator[JobRecord, None]:
    """Push jobs as there is room, and yield each when it has finished. Waits for a full queue.

    A job that is given twice (its id or idempotency key is another's) runs once, and is yielded twice.
    """
    if max_in_flight < 1:
        raise InvalidRequestError(f"max_in_flight: {max_in_flight} is not allowed; allowed: 1 or more")
    window = _Window(is_ordered=is_ordered)
    source = iter(jobs)
    while True:
        room = list(islice(source, max_in_flight - window.num_jobs))
        async for job_id in _push(submitter, room, notify):
            window.add(job_id)
            completions.add(job_id)
        if not window.num_jobs:
            return
        for record in window.take():
            yield record
        if window.num_missing:
            for record in await completions.next():
                window.finish(record)


async def _push(submitter: JobSubmitter, jobs: list[Submission], notify: Notify) -> AsyncGenerator[str, None]:
    """Push jobs, and yield the id of each; wait while the queue is full."""
    num_pushed, was_told = 0, False
    while num_pushed < len(jobs):
        try:
            async for job_id in submitter.submit_many(jobs[num_pushed:]):
                num_pushed += 1
                yield job_id
        except QueueFullError as full:
            if not was_told:
                notify(f"{full}; waiting")
            was_told = True
            await asyncio.sleep(full.retry_after_seconds)


class _Window:
    """The jobs that are pushed and not yielded yet, in the order in which they were pushed."""

    def __init__(self, *, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._order: list[str] = []
        self._finished: dict[str, JobRecord] = {}

    @property
    def num_jobs(self) -> int:
        return len(self._order)

    @property
    def num_missing(self) -> int:
        return sum(job_id not in self._finished for job_id in self._order)

    def add(self, job_id: str) -> None:
        self._order.append(job_id)

    def finish(self, record: JobRecord) -> None:
        self._finished[record.id] = record

    def take(self) -> Iterator[JobRecord]:
        """Take out and yield the jobs that may be yielded now."""
        ready = self._ready()
        for job_id in ready:
            self._order.remove(job_id)
        for job_id in ready:
            yield self._finished[job_id]
        for job_id in set(ready) - set(self._order):
            del self._finished[job_id]

    def _ready(self) -> list[str]:
        if not self._is_ordered:
            return [job_id for job_id in self._order if job_id in self._finished]
        num_ready = next((i for i, job_id in enumerate(self._order) if job_id not in self._finished), len(self._order))
        return self._order[:num_ready]
