"""Dead letters: jobs that were given up after too many attempts. Looked at, run again, or thrown away.

The dead stream lists them; the records, which hold payload, error and kept steps, are the truth.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from gsi.errors import InvalidRequestError
from gsi.jobs.keys import JOB_FIELD, Keys
from gsi.jobs.state import JobState
from gsi.jobs.store import JobRecord, JobStore

PAGE = 1000  # entries of the dead stream read at once

# KEYS record, its lane, steps, dead. ARGV payload field, the states DEAD, QUEUED, the job's id, then entries of the
# dead stream.
# Returns 1 if the job was pushed again, as if it were new but for its kept steps; 0 if it is not dead.
REVIVE = """
if redis.call('HGET', KEYS[1], 'state') ~= ARGV[2] then return 0 end
local entry = redis.call('XADD', KEYS[2], '*', ARGV[1], redis.call('HGET', KEYS[1], 'payload'), 'id', ARGV[4])
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'attempt', 0, 'entry_id', entry)
redis.call('HSET', KEYS[1], 'submitted_at', string.match(entry, '%d+'))
redis.call('HDEL', KEYS[1], 'error', 'dead_reason', 'last_error', 'cancel_reason', 'started_at', 'finished_at')
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[3])
for i = 5, #ARGV do redis.call('XDEL', KEYS[4], ARGV[i]) end
return 1
"""

# KEYS record, steps, dead. ARGV the state DEAD, an entry of the dead stream.
# Deletes the job with its steps if it is dead (else only the entry). Returns how many entries were deleted.
PURGE = """
if redis.call('HGET', KEYS[1], 'state') == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[2]) end
return redis.call('XDEL', KEYS[3], ARGV[2])
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that was given up: why, its last error, and when, in seconds since 1970 by the server's clock."""

    entry_id: str
    job_id: str
    reason: str
    error: str

    @property
    def died_at(self) -> float:
        return int(self.entry_id.partition("-")[0]) / 1000


class DeadLetters:
    """The dead jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._store = JobStore(redis, keys)
        self._revive = redis.register_script(REVIVE)
        self._purge = redis.register_script(PURGE)

    async def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield every dead letter, the oldest first."""
        first = "-"
        while page := await self._redis.xrange(self._keys.dead, first, "+", count=PAGE):
            for entry_id, fields in page:
                texts = [fields.get(name, b"").decode(errors="replace") for name in (b"id", b"reason", b"error")]
                yield DeadLetter(entry_id.decode(), *texts)
            first = f"({page[-1][0].decode()}"

    async def show(self, job_id: str) -> JobRecord:
        """Return a dead job with its kept steps. Raises InvalidRequestError if there is none, or it is not dead."""
        record = await self._store.record(job_id)
        if record is None:
            raise InvalidRequestError(f"id: no job {job_id} in this queue; allowed: an id that gsi dead list shows")
        if record.state is not JobState.DEAD:
            raise InvalidRequestError(f"id: job {job_id} is {record.state}; allowed: a job that is DEAD")
        return record

    async def retry(self, job_id: str) -> None:
        """Push a dead job again: it goes on after its kept steps, and its attempts and its deadline begin anew.

        Raises InvalidRequestError if there is none of this id, or it is not dead.
        """
        entries = [letter.entry_id async for letter in self.letters() if letter.job_id == job_id]
        if not await self._revived(job_id, entries):
            await self.show(job_id)  # says why not

    async def retry_all(self) -> int:
        """Push every dead job again; return how many. Letters whose record has expired stay."""
        letters = [letter async for letter in self.letters()]
        return sum([await self._revived(letter.job_id, [letter.entry_id]) for letter in letters])

    async def purge(self, before: datetime | None = None) -> int:
        """Delete dead jobs with their steps, all or those that died before a time; return how many letters went."""
        num_purged = 0
        async for letter in self.letters():
            if before is not None and letter.died_at >= before.timestamp():
                break
            keys = [self._keys.record(letter.job_id), self._keys.steps(letter.job_id), self._keys.dead]
            num_purged += await self._purge(keys, [JobState.DEAD.value, letter.entry_id])
        return num_purged

    async def _revived(self, job_id: str, entries: list[str]) -> int:
        record = self._keys.record(job_id)
        lane = await self._redis.hget(record, "lane")
        keys = [record, lane.decode() if lane else self._keys.jobs, self._keys.steps(job_id), self._keys.dead]
        return int(await self._revive(keys, [JOB_FIELD, JobState.DEAD.value, JobState.QUEUED.value, job_id, *entries]))
