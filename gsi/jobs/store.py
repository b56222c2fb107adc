"""Jobs in Redis: submit, take, keep a step, commit, read. The record is the source of truth."""

import asyncio
import operator
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.asyncio import Redis
from tenacity import AsyncRetrying, retry_if_result, wait_fixed

from gsi.errors import InvalidRequestError, RetryableError
from gsi.jobs import scripts
from gsi.jobs.job import Job
from gsi.jobs.keys import DEFAULT_TENANT, GROUP, JOB_FIELD, MAX_DEAD, MAX_RESULTS, Keys
from gsi.jobs.result_document import ResultDocument
from gsi.jobs.state import JobState, states_before
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import Delivery

WAIT_POLL_SECONDS = 0.1
IDEMPOTENCY_MS = 86_400_000
RATE_RESULTS = 20  # over which the pace of the queue is judged
FOLLOW_BLOCK_MS = 500  # how late a follower may learn that a job has finished without another step


class LeaseLostError(Exception):
    """Another coordinator has taken the job: nothing more of this run may be written."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for all jobs of a queue, as its coordinators are told."""

    max_attempts: int = 5
    max_jobs_per_tenant: int = 0  # in flight, over all coordinators; 0: any number
    result_seconds: float = 7 * 86_400  # how long a finished job can be read
    dead_seconds: float = 30 * 86_400  # the same for a dead one

    @property
    def result_ms(self) -> int:
        return int(self.result_seconds * 1000)

    @property
    def dead_ms(self) -> int:
        return int(self.dead_seconds * 1000)


@dataclass(frozen=True, slots=True)
class Submission:
    """The job that a submission led to: a new one, or the one that was there."""

    job_id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a job: its fencing token, and the entry to acknowledge.

    ``attempt`` counts from 1; ``age_seconds`` is how long ago the job was submitted when it was taken, ``submitted_ms``
    when that was (since 1970, by the server's clock).
    """

    job_id: str
    entry_id: str
    token: int
    lane: str  # the stream of the entry
    tenant: str = field(default=DEFAULT_TENANT, compare=False)
    attempt: int = field(default=1, compare=False)
    age_seconds: float = field(default=0.0, compare=False)
    submitted_ms: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether a lease is still ours, and why the job is to be cancelled, if it is."""

    is_held: bool
    cancel_reason: str = ""


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
    lifetime_seconds: float | None = None  # how long it can be read; None: the queue's


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as its record tells it. Times are milliseconds since 1970 by the server's clock."""

    id: str
    state: JobState
    fields: dict[str, str]
    steps: tuple[StepRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the job's result as JSON values."""
        return ResultDocument.from_fields(self.id, self.fields, self.steps).to_dict()


@dataclass(frozen=True, slots=True)
class SetAside:
    """How many jobs are in no lane: dead; put off to be tried again; of tenants that have enough in flight."""

    dead: int = 0
    delayed: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """What operators have set for a queue, and how many submissions its limit has refused."""

    is_paused: bool = False
    num_refused: int = 0


class JobStore:
    """The jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys, policy: Policy | None = None) -> None:
        self._redis: Any = redis
        self._keys = keys
        self.policy = policy or Policy()
        self._submit = redis.register_script(scripts.SUBMIT)
        self._take = redis.register_script(scripts.TAKE)
        self._append_step = redis.register_script(scripts.APPEND_STEP)
        self._commit = redis.register_script(scripts.COMMIT)
        self._retry = redis.register_script(scripts.RETRY)
        self._due = redis.register_script(scripts.DUE)
        self._promote = redis.register_script(scripts.PROMOTE)
        self._unpark = redis.register_script(scripts.UNPARK)
        self._cancel = redis.register_script(scripts.CANCEL)
        self._set_idle = redis.register_script(scripts.SET_IDLE)

    async def submit(self, job: Job) -> Submission:
        """Write the job's record and push it, at once, unless a job of its id or idempotency key exists already.

        Raises RetryableError that says when to come back if the queue is full.
        """
        payload = job.payload.model_copy(update={"id": job.id})
        written = payload.model_dump_json(exclude_defaults=True)
        record, key = self._keys.record(job.id), payload.idempotency_key
        noted = record if key is None else self._keys.idempotency(payload.tenant, key)
        lane = self._keys.lane(payload.priority)
        fields = ["state", JobState.QUEUED.value, "payload", written, "tenant", payload.tenant, "lane", lane]
        code, answer = await self._submit(
            [record, lane, self._keys.config, self._keys.delayed, noted, *self._keys.lanes],
            [JOB_FIELD, written, job.id, "" if key is None else IDEMPOTENCY_MS, *fields],
        )
        if code < 0:
            seconds = await self._seconds_a_job()
            raise RetryableError(
                f"queue {self._keys.queue} is full: {answer.decode()} jobs; come back in {seconds:.0f} s",
                retry_after_seconds=seconds,
            )
        return Submission(answer.decode(), is_new=bool(code))

    async def take(self, job_id: str, delivery: Delivery, consumer: str, tenant: str = DEFAULT_TENANT) -> Lease | None:
        """Become the job's only writer. None if nothing is to be run now.

        The job has finished, came twice, or is dead; or its tenant has enough in flight, and it waits for its turn.
        """
        before: list[str] = [state or "" for state in states_before(JobState.RUNNING)]
        arguments: list[str | int] = [
            delivery.entry_id,
            consumer,
            GROUP,
            job_id,
            JOB_FIELD,
            self.policy.max_attempts,
            MAX_RESULTS,
            MAX_DEAD,
            self.policy.dead_ms,
            JobState.RUNNING.value,
            JobState.DEAD.value,
            JobState.QUEUED.value,
            tenant,
            self.policy.max_jobs_per_tenant,
            *before,
        ]
        parking = [self._keys.dead, self._keys.parked(tenant), self._keys.parked_tenants]
        token, *rest = await self._take([*self._finishing(job_id, delivery.lane), *parking], arguments)
        if not token:
            return None
        attempt, age_ms, submitted_ms = rest
        return Lease(job_id, delivery.entry_id, token, delivery.lane, tenant, attempt, age_ms / 1000, submitted_ms)

    async def append_step(self, lease: Lease, record: StepRecord) -> None:
        """Keep a step. Raises LeaseLostError if the job is another's by now."""
        keys = [self._keys.record(lease.job_id), self._keys.steps(lease.job_id)]
        _held(await self._append_step(keys, [lease.token, record.index, record.to_json()]), lease)

    async def commit(self, lease: Lease, result: JobResult) -> None:
        """End the job, announce it, acknowledge its entry. Raises LeaseLostError if the job is another's by now."""
        before = ",".join(state for state in states_before(result.state) if state)
        written = {name: value for name, value in asdict(result).items() if name not in {"state", "lifetime_seconds"}}
        fields = [str(word) for name, value in written.items() for word in (name, value)]
        arguments: list[str | int] = [
            lease.token,
            GROUP,
            lease.entry_id,
            result.state.value,
            lease.job_id,
            MAX_RESULTS,
            self.policy.result_ms if result.lifetime_seconds is None else int(result.lifetime_seconds * 1000),
            before,
        ]
        _held(await self._commit(self._finishing(lease.job_id, lease.lane), [*arguments, *fields]), lease)

    async def retry(self, lease: Lease, error: str, delay_seconds: float) -> JobState:
        """Put the job off; return QUEUED, or DEAD if it has been tried often enough.

        Its kept steps stay. Raises LeaseLostError if the job is another's by now.
        """
        arguments: list[str | int] = [
            lease.token,
            GROUP,
            lease.entry_id,
            lease.job_id,
            error,
            int(delay_seconds * 1000),
            self.policy.max_attempts,
            MAX_RESULTS,
            MAX_DEAD,
            self.policy.dead_ms,
            JobState.QUEUED.value,
            JobState.DEAD.value,
        ]
        keys = [*self._finishing(lease.job_id, lease.lane), self._keys.dead, self._keys.delayed]
        answer = await self._retry(keys, arguments)
        _held(answer, lease)
        return JobState(answer.decode())

    async def promote_due(self, count: int = 100) -> int:
        """Push jobs again whose delay is over, up to ``count``; return how many."""
        ids = [job_id.decode() for job_id in await self._due([self._keys.delayed], [count])]
        return sum([await self._promoted(job_id) for job_id in ids])

    async def unpark(self, tenant: str) -> int:
        """Push parked jobs of a tenant while it may have more in flight; return how many."""
        parked = self._keys.parked(tenant)
        pushed = 0
        while first := await self._redis.lindex(parked, 0):
            job_id = first.decode()
            record = self._keys.record(job_id)
            lane = await self._redis.hget(record, "lane")
            keys = [record, (lane or self._keys.jobs.encode()).decode(), self._keys.tenants, parked]
            arguments: list[str | int] = [job_id, tenant, self.policy.max_jobs_per_tenant, JOB_FIELD]
            if not await self._unpark([*keys, self._keys.parked_tenants], arguments):
                break
            pushed += 1
        return pushed

    async def unpark_all(self) -> None:
        """Do so for every tenant that has parked jobs: what a coordinator that was lost has not done."""
        for tenant in await self._redis.smembers(self._keys.parked_tenants):
            await self.unpark(tenant.decode())

    async def cancel(self, job_id: str, reason: str, *, may_be_unseen: bool = False) -> JobState | None:
        """Cancel a job that is queued, ask a running one to stop; return the state it was in. None: there is no job.

        A finished one stays as it is. One that ``may_be_unseen``, because it was pushed by XADD and nobody has taken it
        yet, is marked without a question, and dropped when it comes.
        """
        arguments: list[str | int] = [
            job_id,
            reason,
            GROUP,
            MAX_RESULTS,
            self.policy.result_ms,
            JobState.QUEUED.value,
            JobState.RUNNING.value,
            JobState.CANCELLED.value,
            int(may_be_unseen),
        ]
        tenant = await self._redis.hget(self._keys.record(job_id), "tenant")
        waiting = [self._keys.delayed, self._keys.parked(tenant.decode() if tenant else DEFAULT_TENANT)]
        state = await self._cancel([*self._finishing(job_id, self._keys.jobs), *waiting], arguments)
        return None if state is None else JobState(state.decode())

    async def renew(self, lease: Lease, consumer: str) -> Hold:
        """Start the lease anew, if it is still ours."""
        return await self._idle(lease, consumer, idle_ms=0)

    async def look_at(self, lease: Lease) -> Hold:
        """Return whether the lease is still ours, without renewing it."""
        token, reason = await self._redis.hmget(self._keys.record(lease.job_id), "token", "cancel_reason")
        return Hold(token == str(lease.token).encode(), reason.decode() if reason else "")

    async def hand_back(self, lease: Lease, consumer: str, lease_ms: int) -> bool:
        """Let another coordinator take the job over as if the lease had ended, without counting an attempt.

        Returns False if it was lost already.
        """
        return (await self._idle(lease, consumer, idle_ms=lease_ms)).is_held

    async def config(self) -> QueueConfig:
        """Return whether the queue is paused, and how many submissions its limit has refused."""
        paused, refused = await self._redis.hmget(self._keys.config, "paused", "refused")
        return QueueConfig(paused == b"1", int(refused or 0))

    async def set_aside(self) -> SetAside:
        """Count the jobs that are in no lane."""
        tenants = await self._redis.smembers(self._keys.parked_tenants)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xlen(self._keys.dead)
            pipeline.zcard(self._keys.delayed)
            for tenant in tenants:
                pipeline.llen(self._keys.parked(tenant.decode()))
            dead, delayed, *parked = await pipeline.execute()
        return SetAside(dead, delayed, sum(parked))

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
        texts = {
            name.decode(): value.decode(errors="replace") for name, value in fields.items()
        }  # a payload may be any bytes
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

    async def _promoted(self, job_id: str) -> int:
        record = self._keys.record(job_id)
        lane = await self._redis.hget(record, "lane")
        keys = [self._keys.delayed, record, lane.decode() if lane else self._keys.jobs]
        return int(await self._promote(keys, [job_id, JOB_FIELD, JobState.QUEUED.value]))

    async def _seconds_a_job(self) -> float:
        """Return how long it takes until a job is finished, judged by the last ones; 5 s without any."""
        newest = await self._redis.xrevrange(self._keys.results, count=RATE_RESULTS)
        times = [int(entry_id.split(b"-")[0]) for entry_id, _ in newest]
        return max(1.0, (times[0] - times[-1]) / 1000 / (len(times) - 1)) if len(times) > 1 else 5.0

    async def _idle(self, lease: Lease, consumer: str, idle_ms: int) -> Hold:
        keys = [self._keys.record(lease.job_id), lease.lane]
        held, *reason = await self._set_idle(
            keys, [lease.token, GROUP, consumer, lease.entry_id, idle_ms, JobState.RUNNING.value]
        )
        return Hold(bool(held), reason[0].decode() if reason else "")

    def _finishing(self, job_id: str, lane: str) -> list[str]:
        """Return the keys of every script that may end a job, in their order."""
        return [self._keys.record(job_id), lane, self._keys.steps(job_id), self._keys.results, self._keys.tenants]


def _held(answer: object, lease: Lease) -> None:
    if not answer:
        raise LeaseLostError(f"job {lease.job_id}: another coordinator has taken it")
