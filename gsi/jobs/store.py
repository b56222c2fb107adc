"""Jobs in Redis: submit, take, keep a step, commit, read. The record is the source of truth."""

import asyncio
import json
import operator
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import Redis
from tenacity import AsyncRetrying, retry_if_result, wait_fixed

from gsi.errors import InvalidRequestError
from gsi.jobs import scripts
from gsi.jobs.job import Job
from gsi.jobs.keys import GROUP, JOB_FIELD, MAX_RESULTS, Keys
from gsi.jobs.state import JobState, states_before
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import Delivery

WAIT_POLL_SECONDS = 0.1
FOLLOW_BLOCK_MS = 500  # how late a follower may learn that a job has finished without another step


class LeaseLostError(Exception):
    """Another coordinator has taken the job: nothing more of this run may be written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a job: its fencing token, and the entry to acknowledge."""

    job_id: str
    entry_id: str
    token: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: the fields that a commit writes to its record."""

    state: JobState
    stop_reason: str = ""
    text: str = ""
    answer: str = ""
    error: str = ""
    params: str = ""  # JSON: every parameter that was in force, the seed too
    models: str = ""  # JSON: by role, the model, its engine and its size


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as its record tells it. Times are milliseconds since 1970 by the server's clock."""

    id: str
    state: JobState
    fields: dict[str, str]
    steps: tuple[StepRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "id": self.id,
            "state": self.state.value,
            "stop_reason": self.fields.get("stop_reason") or None,
            "error": self.fields.get("error") or None,
            "answer": self.fields.get("answer") or None,
            "text": self.fields.get("text", ""),
            "attempt": int(self.fields.get("attempt", 0)),
            "params": json.loads(self.fields.get("params") or "null"),
            "models": json.loads(self.fields.get("models") or "null"),
            "submitted_at": _seconds(self.fields.get("submitted_at")),
            "started_at": _seconds(self.fields.get("started_at")),
            "finished_at": _seconds(self.fields.get("finished_at")),
            "steps": [record.to_dict() for record in self.steps],
        }


class JobStore:
    """The jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._submit = redis.register_script(scripts.SUBMIT)
        self._take = redis.register_script(scripts.TAKE)
        self._append_step = redis.register_script(scripts.APPEND_STEP)
        self._commit = redis.register_script(scripts.COMMIT)
        self._set_idle = redis.register_script(scripts.SET_IDLE)

    async def submit(self, job: Job) -> bool:
        """Write the job's record and push it, at once; return False if a job of this id exists already."""
        payload = job.payload.model_copy(update={"id": job.id}).model_dump_json(exclude_defaults=True)
        keys = [self._keys.record(job.id), self._keys.jobs]
        return bool(await self._submit(keys, [JOB_FIELD, payload, "state", JobState.QUEUED.value]))

    async def take(self, job_id: str, delivery: Delivery, consumer: str) -> Lease | None:
        """Become the job's only writer. None if there is nothing to do: it has finished, or came twice."""
        before: list[str] = [state or "" for state in states_before(JobState.RUNNING)]
        arguments: list[str] = [delivery.entry_id, consumer, JobState.RUNNING.value, *before]
        token, *_ = await self._take([self._keys.record(job_id)], arguments)
        if not token:
            await self._drop(delivery)
            return None
        return Lease(job_id, delivery.entry_id, token)

    async def append_step(self, lease: Lease, record: StepRecord) -> None:
        """Keep a step. Raises LeaseLostError if the job is another's by now."""
        keys = [self._keys.record(lease.job_id), self._keys.steps(lease.job_id)]
        _held(await self._append_step(keys, [lease.token, record.step.index, record.to_json()]), lease)

    async def commit(self, lease: Lease, result: JobResult) -> None:
        """End the job, announce it, acknowledge its entry. Raises LeaseLostError if the job is another's by now."""
        keys = [self._keys.record(lease.job_id), self._keys.jobs, self._keys.results]
        before = ",".join(state for state in states_before(result.state) if state)
        fields = [str(word) for name, value in asdict(result).items() if name != "state" for word in (name, value)]
        arguments: list[str | int] = [
            lease.token,
            GROUP,
            lease.entry_id,
            result.state.value,
            lease.job_id,
            MAX_RESULTS,
            before,
        ]
        _held(await self._commit(keys, [*arguments, *fields]), lease)

    async def renew(self, lease: Lease, consumer: str) -> bool:
        """Start the lease anew; return False if it was lost."""
        return await self._idle(lease, consumer, idle_ms=0)

    async def hand_back(self, lease: Lease, consumer: str, lease_ms: int) -> bool:
        """Let another coordinator take the job over as if the lease had ended; return False if it was lost already."""
        return await self._idle(lease, consumer, idle_ms=lease_ms)

    async def steps(self, job_id: str) -> list[StepRecord]:
        """Return the kept steps in order."""
        entries = await self._redis.xrange(self._keys.steps(job_id))
        return [StepRecord.from_json(fields[b"step"]) for _, fields in entries]

    async def exists(self, job_id: str) -> bool:
        """Return whether there is a record of the job."""
        return bool(await self._redis.exists(self._keys.record(job_id)))

    async def record(self, job_id: str) -> JobRecord | None:
        """Return the job with its steps, or None if there is no record of it."""
        fields = await self._redis.hgetall(self._keys.record(job_id))
        if not fields:
            return None
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        return JobRecord(job_id, JobState(texts["state"]), texts, tuple(await self.steps(job_id)))

    async def forget(self, job_id: str) -> bool:
        """Delete a finished job's record and steps; return False if there is none, or it has not finished."""
        if not await self._is_finished(job_id):
            return False
        return bool(await self._redis.delete(self._keys.record(job_id), self._keys.steps(job_id)))

    async def follow(self, job_id: str) -> AsyncIterator[StepRecord]:
        """Yield every step of a job, those kept before and those to come, until it has finished.

        Waits for a job that has no record yet: one pushed by XADD gets it when it is taken.
        """
        last = b"0"
        while True:
            is_over = await self._is_finished(job_id)  # asked first: no step follows the end
            wait_ms = None if is_over else FOLLOW_BLOCK_MS
            answer = await self._redis.xread({self._keys.steps(job_id): last}, block=wait_ms)
            for entry_id, fields in (entry for _, entries in answer for entry in entries):
                yield StepRecord.from_json(fields[b"step"])
                last = entry_id
            if is_over:
                return

    async def wait(self, job_id: str, timeout_seconds: float | None = None) -> JobRecord:
        """Return the job once it has finished. Raises TimeoutError if that takes too long.

        Asks now and then, unlike a follower, which holds a connection: hundreds may wait at once.
        """
        async with asyncio.timeout(timeout_seconds):
            until_true = AsyncRetrying(retry=retry_if_result(operator.not_), wait=wait_fixed(WAIT_POLL_SECONDS))
            await until_true(self._is_finished, job_id)
        record = await self.record(job_id)
        if record is None:
            raise InvalidRequestError(f"id: no job {job_id}")
        return record

    async def _is_finished(self, job_id: str) -> bool:
        state = await self._redis.hget(self._keys.record(job_id), "state")
        return state is not None and JobState(state.decode()).is_finished

    async def _drop(self, delivery: Delivery) -> None:
        """Acknowledge and free an entry whose job needs no run."""
        await self._redis.xack(self._keys.jobs, GROUP, delivery.entry_id)
        await self._redis.xdel(self._keys.jobs, delivery.entry_id)

    async def _idle(self, lease: Lease, consumer: str, idle_ms: int) -> bool:
        keys = [self._keys.record(lease.job_id), self._keys.jobs]
        return bool(await self._set_idle(keys, [lease.token, GROUP, consumer, lease.entry_id, idle_ms]))


def _held(answer: int, lease: Lease) -> None:
    if not answer:
        raise LeaseLostError(f"job {lease.job_id}: another coordinator has taken it")


def _seconds(milliseconds: str | None) -> float | None:
    return int(milliseconds) / 1000 if milliseconds else None
