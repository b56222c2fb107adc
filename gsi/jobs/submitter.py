"""The submitter's side of a queue: push jobs, cancel a job."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.jobs.errors import JobConflictError, QueueFullError
from gsi.jobs.job import Job
from gsi.jobs.keys import DEFAULT_TENANT, Key, Keys, Priority
from gsi.jobs.policy import Policy
from gsi.jobs.scripts import calls
from gsi.jobs.scripts.calls import IS_ANOTHER, KEY_HAS_MOVED
from gsi.jobs.state import JobState
from gsi.jobs.submission import Submission, in_groups

IDEMPOTENCY_MS = 86_400_000
NUM_PACE_RESULTS = 20  # the newest results, which tell how fast the queue is
DEFAULT_PACE_SECONDS = 5.0


class JobSubmitter:
    """Submits and cancels the jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys, policy: Policy | None = None) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._policy = policy or Policy()

    async def submit(self, job: Job) -> str:
        """Write the job's record and push the job; return its id.

        If a job of this id or idempotency key exists already, nothing is written, and that job's id is returned.
        Raises JobConflictError if the job of this id has another payload, and QueueFullError.
        """
        (job_id,) = [job_id async for job_id in self.submit_many([Submission.of(job)])]
        return job_id

    async def submit_many(self, jobs: Iterable[Submission]) -> AsyncGenerator[str, None]:
        """Do the same for each job in order, many in a round trip, and yield its id once it is pushed.

        Reads ``jobs`` as it goes. A job whose id was not yielded was not pushed; if the connection to Redis is lost, or
        the caller stops reading, some of the next ``MAX_TOGETHER`` may have been. To push them again does no harm.
        """
        for group in in_groups(jobs):
            num_pushed = 0
            while num_pushed < len(group):
                for answer in await self._push(group[num_pushed:]):
                    if answer == KEY_HAS_MOVED:
                        break  # somebody else has just used the idempotency key
                    if answer == IS_ANOTHER:
                        raise JobConflictError(group[num_pushed].job_id)
                    if isinstance(answer, int):
                        raise await self._refuse(num_jobs=answer)
                    if isinstance(answer, ResponseError):
                        raise answer
                    num_pushed += 1
                    yield answer

    async def cancel(self, job_id: str, reason: str, *, may_be_unseen: bool = False) -> JobState | None:
        """Cancel a job that is queued, or ask a running job to stop; return the state that it was in.

        A finished job stays as it is. None: there is no record of the job. A job without a record that
        ``may_be_unseen``, because XADD pushed it and no coordinator has taken it yet, gets a CANCELLED record, and is
        dropped when it is delivered.
        """
        while isinstance(state := await self._try_to_cancel(job_id, reason, may_be_unseen=may_be_unseen), int):
            pass  # the job has just got its record, and with it its tenant
        return state

    async def _try_to_cancel(self, job_id: str, reason: str, *, may_be_unseen: bool) -> JobState | int | None:
        found = await self._redis.hget(self._keys.record(job_id), "tenant")
        tenant = found.decode() if found else DEFAULT_TENANT
        return await calls.cancel(
            self._redis,
            record=self._keys.record(job_id),
            steps=self._keys.steps(job_id),
            results=self._keys.results,
            tenants=self._keys.tenants,
            delayed=self._keys.delayed,
            parked=self._keys.parked(tenant),
            parked_tenants=self._keys.parked_tenants,
            job_id=job_id,
            tenant=tenant,
            reason=reason,
            may_be_unseen=may_be_unseen,
            lifetime_ms=self._policy.result_ms,
        )

    async def _push(self, jobs: Sequence[Submission]) -> list[str | int | ResponseError]:
        """Push jobs up to the first that cannot be pushed now; return the answers of the script ``submit``."""
        earlier = await self._earlier_jobs(jobs)
        return await calls.submit(
            self._redis,
            config=self._keys.config,
            delayed=self._keys.delayed,
            high=self._keys.lane(Priority.HIGH),
            normal=self._keys.lane(Priority.NORMAL),
            low=self._keys.lane(Priority.LOW),
            job_keys=[key for job, first in zip(jobs, earlier, strict=True) for key in self._keys_of(job, first)],
            job_values=[
                word
                for job, first in zip(jobs, earlier, strict=True)
                for word in (job.job_id, job.tenant, job.payload, _idempotency_ms(job), first, job.digest)
            ],
        )

    async def _earlier_jobs(self, jobs: Sequence[Submission]) -> list[str]:
        """Return the id of the job that used each job's idempotency key before; "" if there is none."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job in jobs:
                if job.idempotency_key is not None:
                    pipeline.get(self._idempotency_key(job))
            found = iter(await pipeline.execute())
        return ["" if job.idempotency_key is None else (next(found) or b"").decode() for job in jobs]

    def _keys_of(self, job: Submission, earlier: str) -> tuple[Key, ...]:
        """Return the keys of a job, as the script ``submit`` takes them."""
        record = self._keys.record(job.job_id)
        return (
            record,
            self._keys.lane(job.priority),
            self._keys.steps(job.job_id),
            record if job.idempotency_key is None else self._idempotency_key(job),
            self._keys.record(earlier),
        )

    def _idempotency_key(self, job: Submission) -> Key:
        return self._keys.idempotency(job.tenant, job.idempotency_key or "")

    async def _refuse(self, num_jobs: int) -> QueueFullError:
        return QueueFullError(self._keys.queue, num_jobs, await self._seconds_per_job())

    async def _seconds_per_job(self) -> float:
        """Return the seconds between the ends of two jobs, at least 1, as the newest results tell."""
        newest = await self._redis.xrevrange(self._keys.results, count=NUM_PACE_RESULTS)
        if len(newest) < 2:
            return DEFAULT_PACE_SECONDS
        last_ms, first_ms = (int(entry_id.split(b"-")[0]) for entry_id, _ in (newest[0], newest[-1]))
        return max(1.0, (last_ms - first_ms) / 1000 / (len(newest) - 1))


def _idempotency_ms(job: Submission) -> str:
    return "0" if job.idempotency_key is None else str(IDEMPOTENCY_MS)
