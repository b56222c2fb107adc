"""Wait for many jobs at once: the results stream says which have finished, so a waiter asks for none of them."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from redis.asyncio import Redis

from gsi.jobs.errors import UnknownJobError, WaitTimeoutError
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobReader, JobRecord

BLOCK_MS = 500
LOOK_SECONDS = 10.0  # between looks at the records: the stream is trimmed, and a failover may lose its last entries
MAX_LOOKED_AT = 500  # records in a round trip
MAX_READ = 100  # results in a round trip: each may have hundreds of steps


class Completions:
    """Jobs of one queue that are waited for. A job that has no record yet is waited for, too."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._reader = JobReader(redis, keys)
        self._waiting: dict[str, None] = {}  # in order
        self._new: list[str] = []
        self._seen: set[str] = set()
        self._finished: dict[str, None] = {}
        self._last: bytes | None = None  # the newest result that was read
        self._look_at = 0.0  # by the event loop's clock

    def __len__(self) -> int:
        return len(self._waiting) + len(self._finished)

    def add(self, job_id: str) -> None:
        """Wait for this job, too."""
        if job_id not in self._waiting and job_id not in self._finished:
            self._waiting[job_id] = None
            self._new.append(job_id)

    async def next(self, until: float | None = None) -> list[JobRecord]:
        """Wait until some jobs have finished; return them, each once. Empty if none is waited for.

        Raises WaitTimeoutError at ``until`` (the event loop's clock), and UnknownJobError if a record is deleted.
        """
        try:
            async with asyncio.timeout_at(until):
                while self._waiting and not self._finished:
                    await self._look()
        except TimeoutError:
            raise self._timeout() from None
        records = await self._take_finished()
        return records if records or not self._waiting else await self.next(until)

    async def _take_finished(self) -> list[JobRecord]:
        """Return the records of some jobs that have finished. A dead job that was retried meanwhile is waited for."""
        job_ids = list(islice(self._finished, MAX_READ))
        found = await self._reader.records(job_ids)
        records = [_checked(job_id, record) for job_id, record in zip(job_ids, found, strict=True)]
        for job_id in job_ids:
            del self._finished[job_id]
        for record in records:
            if not record.state.is_finished:
                self.add(record.id)
        return [record for record in records if record.state.is_finished]

    async def _look(self) -> None:
        """Look at the records of new jobs, at all records from time to time, else wait for results."""
        now = asyncio.get_running_loop().time()
        if self._last is None:
            newest = await self._redis.xrevrange(self._keys.results, count=1)
            self._last = newest[0][0] if newest else b"0"
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._new = list(self._waiting)
        if self._new:
            looked_at, self._new = self._new[:MAX_LOOKED_AT], self._new[MAX_LOOKED_AT:]
            await self._look_at_records(looked_at)
        else:
            await self._read_results()

    async def _look_at_records(self, job_ids: Sequence[str]) -> None:
        for job_id, state in zip(job_ids, await self._reader.states(job_ids), strict=True):
            if state is not None:
                self._seen.add(job_id)
            if state.is_finished if state else job_id in self._seen:
                self._finish([job_id])

    async def _read_results(self) -> None:
        answer = await self._redis.xread({self._keys.results: self._last}, block=BLOCK_MS)
        for _, entries in answer:
            self._finish(fields.get(b"id", b"").decode(errors="replace") for _, fields in entries)
            self._last = entries[-1][0]

    def _finish(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            if job_id in self._waiting:
                del self._waiting[job_id]
                self._seen.discard(job_id)
                self._finished[job_id] = None

    def _timeout(self) -> WaitTimeoutError:
        job_ids = tuple(self._waiting)
        named = ", ".join(job_ids[:3]) + (", …" if len(job_ids) > 3 else "")
        what = f"{len(job_ids)} job{'s' * (len(job_ids) != 1)} of queue {self._keys.queue}"
        return WaitTimeoutError(f"waited in vain for {what}: {named}", job_ids)


def _checked(job_id: str, record: JobRecord | None) -> JobRecord:
    if record is None:
        raise UnknownJobError(job_id, f"id: job {job_id} was deleted, or its lifetime has ended")
    return record
