"""The submitter's side of a queue: push a job, cancel a job."""

from typing import Any

from redis.asyncio import Redis

from gsi.errors import RetryableError
from gsi.jobs.job import Job
from gsi.jobs.keys import DEFAULT_TENANT, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState

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
        Raises RetryableError that says when to come back if the queue is full.
        """
        while (submitted := await self._try_to_submit(job)) is None:
            pass  # somebody else has just used the idempotency key
        if isinstance(submitted, str):
            return submitted
        seconds = await self._seconds_per_job()
        raise RetryableError(
            f"queue {self._keys.queue} is full: {submitted} jobs; come back in {seconds:.0f} s",
            retry_after_seconds=seconds,
        )

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

    async def _try_to_submit(self, job: Job) -> str | int | None:
        payload = job.payload.model_copy(update={"id": job.id})
        record, key = self._keys.record(job.id), payload.idempotency_key
        idempotency = record if key is None else self._keys.idempotency(payload.tenant, key)
        found = None if key is None else await self._redis.get(idempotency)
        earlier = found.decode() if found else ""
        return await calls.submit(
            self._redis,
            record=record,
            lane=self._keys.lane(payload.priority),
            steps=self._keys.steps(job.id),
            config=self._keys.config,
            delayed=self._keys.delayed,
            idempotency=idempotency,
            earlier_record=self._keys.record(earlier),
            lanes=self._keys.lanes,
            job_id=job.id,
            tenant=payload.tenant,
            payload=payload.model_dump_json(exclude_unset=True),
            idempotency_ms=0 if key is None else IDEMPOTENCY_MS,
            earlier=earlier,
        )

    async def _seconds_per_job(self) -> float:
        """Return the seconds between the ends of two jobs, at least 1, as the newest results tell."""
        newest = await self._redis.xrevrange(self._keys.results, count=NUM_PACE_RESULTS)
        if len(newest) < 2:
            return DEFAULT_PACE_SECONDS
        last_ms, first_ms = (int(entry_id.split(b"-")[0]) for entry_id, _ in (newest[0], newest[-1]))
        return max(1.0, (last_ms - first_ms) / 1000 / (len(newest) - 1))
