"""Dead letters: jobs that are given up after too many attempts. A person reads, retries or purges them.

The dead stream lists dead jobs. Their records hold payload, error and kept steps, and are the source of truth.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from gsi.errors import InvalidRequestError
from gsi.jobs.errors import UnknownJobError
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobReader, JobRecord
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState

PAGE = 1000  # entries of the dead stream that one call reads


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a job was given up, and its last error."""

    entry_id: str
    job_id: str
    reason: str
    error: str

    @property
    def died_at(self) -> float:
        """Return the time of the letter, in seconds since 1970 by the server's clock."""
        return int(self.entry_id.partition("-")[0]) / 1000


class DeadLetters:
    """The dead jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._reader = JobReader(redis, keys)

    async def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield every dead letter, the oldest first."""
        first = "-"
        while page := await self._redis.xrange(self._keys.dead, first, "+", count=PAGE):
            for entry_id, fields in page:
                yield _to_letter(entry_id, fields)
            first = f"({page[-1][0].decode()}"

    async def newest(self, limit: int) -> list[DeadLetter]:
        """Return up to ``limit`` dead letters, the newest first."""
        return [_to_letter(*entry) for entry in await self._redis.xrevrange(self._keys.dead, count=limit)]

    async def show(self, job_id: str) -> JobRecord:
        """Return a dead job with its kept steps. Raises InvalidRequestError if the job is unknown or not dead."""
        record = await self._reader.record(job_id)
        if record is None:
            raise UnknownJobError(job_id, f"id: no job {job_id} in this queue; allowed: an id that gsi dead list shows")
        if record.state is not JobState.DEAD:
            raise InvalidRequestError(f"id: job {job_id} is {record.state}; allowed: a job that is DEAD")
        return record

    async def retry(self, job_id: str) -> None:
        """Push a dead job again: it continues after its kept steps, with new attempts and a new deadline.

        Raises InvalidRequestError if there is no job of this id, or it is not dead.
        """
        letters = [letter.entry_id async for letter in self.letters() if letter.job_id == job_id]
        if not await self._revive(job_id, letters):
            await self.show(job_id)  # raises the error that says why not

    async def retry_all(self) -> int:
        """Push every dead job again; return how many. A letter whose record has expired stays."""
        letters = [letter async for letter in self.letters()]
        return sum([await self._revive(letter.job_id, [letter.entry_id]) for letter in letters])

    async def purge(self, before: datetime | None = None) -> int:
        """Delete dead jobs with their steps; return how many letters were deleted.

        ``before``: only jobs that died before that time. A job that is not dead any more loses its letter alone.
        """
        num_purged = 0
        async for letter in self.letters():
            if before is not None and letter.died_at >= before.timestamp():
                break
            num_purged += await calls.purge(
                self._redis,
                record=self._keys.record(letter.job_id),
                steps=self._keys.steps(letter.job_id),
                dead_letters=self._keys.dead,
                letter=letter.entry_id,
            )
        return num_purged

    async def _revive(self, job_id: str, letters: Sequence[str]) -> bool:
        lane = await self._redis.hget(self._keys.record(job_id), "lane")
        return await calls.revive(
            self._redis,
            record=self._keys.record(job_id),
            lane=self._keys.lane_of(lane),
            steps=self._keys.steps(job_id),
            dead_letters=self._keys.dead,
            job_id=job_id,
            letters=letters,
        )


def _to_letter(entry_id: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
    texts = [fields.get(name, b"").decode(errors="replace") for name in (b"id", b"reason", b"error")]
    return DeadLetter(entry_id.decode(), *texts)
