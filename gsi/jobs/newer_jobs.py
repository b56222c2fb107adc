"""Jobs that this release cannot read, while coordinators of two releases share a queue.

A job's payload may come from a newer client, and its steps from a newer coordinator. A coordinator that cannot read one
puts the job back, for a coordinator of the newer release to take it. That is no attempt. The pause doubles from one to
ten seconds, so that a job which nobody can read costs a few takes a minute. After ``Policy.newer_seconds`` the job is
FAILED: either there is no newer coordinator, or the newer release cannot read the job either.

An unknown name may also be mistyped. Such a job is put back only if a coordinator of a newer format was at work on the
queue within that time, which it announces in the queue's config. Decision 0042.
"""

from typing import Any

from redis.asyncio import Redis

from gsi.jobs.job import Newness
from gsi.jobs.keys import Keys
from gsi.jobs.payload import PAYLOAD_FORMAT
from gsi.jobs.policy import Policy
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState
from gsi.jobs.writer import JobWriter, Lease

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0


class NewerJobs:
    """Puts jobs of a newer release back. ``payload_format`` is that of the payloads which this coordinator reads."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        writer: JobWriter,
        policy: Policy | None = None,
        payload_format: int = PAYLOAD_FORMAT,
    ) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._writer = writer
        self._policy = policy or Policy()
        self._format = payload_format

    async def announce(self) -> bool:
        """Note what this coordinator reads. Return whether a coordinator of a newer format was at work lately."""
        return await calls.announce(
            self._redis, config=self._keys.config, payload_format=self._format, window_ms=self._policy.newer_ms
        )

    async def put_back(self, lease: Lease, error: str, newness: Newness) -> JobState | None:
        """Leave the job to a newer coordinator; return its state, or None if it has waited long enough for one.

        Raises LeaseLostError if another coordinator has taken the job.
        """
        if newness is Newness.NONE or (newness is Newness.POSSIBLE and not await self.announce()):
            return None
        record = self._keys.record(lease.job_id)
        first_ms, number = await self._redis.hmget(record, "put_back_at", "put_back")
        waited_ms = await calls.read_clock(self._redis, key=record) - int(first_ms) if first_ms else 0
        if waited_ms >= self._policy.newer_ms:
            return None
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(int(number or 0), 10))
        return await self._writer.retry(lease, error, pause, counts=False)
