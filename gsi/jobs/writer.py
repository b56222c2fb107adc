"""The writer's side of a queue: take a job, keep its steps, end it. How the lease and the fencing token work.

Redis Streams deliver an entry at least once. A coordinator may be killed between any two commands, or it may stall for
minutes and then continue. Still a job must have one result, and each step must be kept once. A lease and a fencing
token ensure that together.

The lease makes it rare that two coordinators run the same job. A delivered entry is on the pending list of the consumer
group, with the name of its consumer and an idle time. This idle time is the lease; no key holds it. A coordinator
renews the lease at a quarter of its length: it sets the idle time back to 0 (``renew``). If the coordinator dies, the
idle time grows. Once it exceeds the lease, any other coordinator may take the entry over (``JobStream.take_over``). A
coordinator that is told to stop sets the idle time to a whole lease (``hand_back``), so that no other one need wait.

The lease alone is not safe: a coordinator that stalls for longer than its lease wakes up and still believes that it
holds the job. The fencing token stops it. ``take`` counts the queue's takes and writes the number to the record's field
``token``, with a nonce of its caller; every later script compares its caller's token and nonce with the record's, and
writes nothing if they differ. So only the coordinator that took the job last can write it. Tokens are counted for the
whole queue, because a record may be deleted and its id used again. The nonce is for a server that lost its last writes:
it may give a token for the second time.

``take`` itself may stall, too: it works only for the consumer that the pending list names, on an entry that still
exists. This keeps the queue's invariant: an unfinished job is in exactly one place. It has an entry, which the record's
``entry_id`` names; or it has none, and its id is in the delayed set or in its tenant's parked list. A second entry for
its id is dropped. A running job has an entry and one writer. ``gsi queue check`` looks for jobs that break this.

``attempt`` is another number: it counts the deliveries, and goes down by 1 when a job is handed back. Not each attempt
is held against the job's limit: if its coordinator was lost after the job had kept a step, it is not. A job that ends
its coordinators does so at the same step each time, and is dead at the limit; a job that makes progress is not, however
many coordinators are killed under it.

Redis runs a script alone and to its end, so record, steps and entry agree after each call. A script that ends a job
acknowledges the entry last. If the server loses its last writes, the entry is still pending, the job is delivered
again, and ``take`` drops the entry if the record says that the job has finished. A client that lost a script's answer
sends the script again; the script recognises its own token and answers as it did before.
"""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.errors import cut_message
from gsi.jobs.kept_prompt import PROMPT_FIELD, KeptPrompt
from gsi.jobs.keys import DEFAULT_TENANT, MAX_DELAY_MS, Key, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.scripts import calls
from gsi.jobs.scripts.calls import Taken
from gsi.jobs.scripts.loader import ScriptCall, send_together
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import Delivery

PROMOTE_COUNT = 100


class LeaseLostError(Exception):
    """Another coordinator has taken the job: this run must write nothing more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a job: its fencing token with the nonce of this take, and the entry to acknowledge.

    ``consumer`` is the coordinator that holds the lease, ``lane`` the stream of the entry. ``attempt`` counts from 1.
    ``submitted_ms`` is the time of submission, in milliseconds since 1970 by the server's clock; ``age_seconds`` is the
    time from submission until the job was taken.
    """

    job_id: str
    entry_id: str
    token: int
    nonce: str
    lane: Key
    consumer: str
    tenant: str = field(default=DEFAULT_TENANT, compare=False)
    attempt: int = field(default=1, compare=False)
    age_seconds: float = field(default=0.0, compare=False)
    submitted_ms: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether a lease still holds, and why its job is to be cancelled ("": it is not)."""

    is_held: bool
    cancel_reason: str = ""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: the fields that a commit writes to its record."""

    state: JobState
    stop_reason: str = ""
    text: str = ""
    reasoning: str = ""  # the trace of a thinking model, which is not part of the text
    answer: str = ""
    error: str = ""
    params: str = ""  # JSON: every parameter in force, with the seed
    models: str = ""  # JSON: by role, the model, its files, its engine and its size
    router: str = ""  # SHA-256 of the file of the router that decided, for a method that asks a router
    prompt_tokens: str = ""  # a number: the length of the rendered prompt
    rendered_prompt: str = ""  # by the chat template, for a job that keeps its candidates
    code: str = ""  # see ``gsi/runtime/code_version.py``
    lifetime_seconds: float | None = None  # how long the job can be read; None: as the policy says


class JobWriter:
    """Writes the jobs of one queue, each under its lease."""

    def __init__(self, redis: Redis, keys: Keys, policy: Policy | None = None) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._policy = policy or Policy()

    async def take(self, job_id: str, delivery: Delivery, tenant: str = DEFAULT_TENANT) -> Lease | None:
        """Make the delivery's consumer the job's only writer. Return None if there is nothing to run now.

        That is so if the consumer does not hold the entry any more, if the job has finished or waits elsewhere, if
        another entry stands for it, if it was to be cancelled, if it has been taken too often and is dead now, or if
        its tenant has enough jobs in flight: the job is parked then.
        """
        nonce = secrets.token_hex(8)
        try:
            taken = await self._call_take(job_id, delivery, tenant, nonce)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):  # else a key of the job's name is no job, and never will be
                raise
            await self.discard(job_id, delivery, str(error))
            return None
        if taken is None:
            return None
        return Lease(
            job_id,
            delivery.entry_id,
            taken.token,
            nonce,
            delivery.lane,
            delivery.consumer,
            tenant,
            taken.attempt,
            taken.age_ms / 1000,
            taken.submitted_ms,
        )

    async def append_step(self, lease: Lease, record: StepRecord, prompt: KeptPrompt | None = None) -> None:
        """Keep a step, the first one with the rendered prompt that all steps follow.

        Raises LeaseLostError if another coordinator has taken the job.
        """
        is_held = await calls.append_step(
            self._redis,
            record=self._keys.record(lease.job_id),
            steps=self._keys.steps(lease.job_id),
            token=lease.token,
            nonce=lease.nonce,
            index=record.index,
            step=record.to_json(),
            fields={} if prompt is None else {PROMPT_FIELD: prompt.to_json()},
        )
        if not is_held:
            raise _lost(lease)

    async def commit(self, lease: Lease, result: JobResult) -> None:
        """End the job, announce its end, acknowledge its entry.

        Raises LeaseLostError if another coordinator has taken the job.
        """
        seconds = result.lifetime_seconds
        fields = asdict(result)
        del fields["state"], fields["lifetime_seconds"]
        is_held = await calls.commit(
            self._redis,
            record=self._keys.record(lease.job_id),
            lane=lease.lane,
            steps=self._keys.steps(lease.job_id),
            results=self._keys.results,
            tenants=self._keys.tenants,
            job_id=lease.job_id,
            token=lease.token,
            nonce=lease.nonce,
            entry=lease.entry_id,
            lifetime_ms=self._policy.result_ms if seconds is None else int(seconds * 1000),
            ending=result.state,
            fields={name: str(value) for name, value in fields.items()},
        )
        if not is_held:
            raise _lost(lease)

    async def retry(self, lease: Lease, error: str, delay_seconds: float, *, counts: bool = True) -> JobState:
        """Put the job off; return QUEUED, or DEAD if the job has been tried often enough. Its kept steps stay.

        A run that does not count was no attempt, and makes no job dead: ``gsi/jobs/newer_jobs.py``.
        Raises LeaseLostError if another coordinator has taken the job.
        """
        state = await calls.retry(
            self._redis,
            record=self._keys.record(lease.job_id),
            lane=lease.lane,
            steps=self._keys.steps(lease.job_id),
            results=self._keys.results,
            tenants=self._keys.tenants,
            dead_letters=self._keys.dead,
            delayed=self._keys.delayed,
            job_id=lease.job_id,
            token=lease.token,
            nonce=lease.nonce,
            entry=lease.entry_id,
            error=cut_message(error),
            delay_ms=min(MAX_DELAY_MS, int(delay_seconds * 1000)),
            max_attempts=self._policy.max_attempts,
            dead_ms=self._policy.dead_ms,
            counts=counts,
        )
        if state is None:
            raise _lost(lease)
        return state

    async def discard(self, job_id: str, delivery: Delivery, error: str) -> None:
        """Free an entry that cannot be taken; a dead letter says why."""
        await calls.discard(
            self._redis,
            lane=delivery.lane,
            dead_letters=self._keys.dead,
            job_id=job_id,
            entry=delivery.entry_id,
            consumer=delivery.consumer,
            error=cut_message(error),
        )

    async def renew(self, leases: Sequence[Lease]) -> list[Hold | ResponseError]:
        """Start leases again from their beginning, if they still hold, in one round trip.

        Returns of each whether it holds, or why the server did not tell.
        """
        return [
            answer if isinstance(answer, ResponseError) else _to_hold(answer)
            for answer in await send_together(self._redis, [self._bind_idle(lease, idle_ms=0) for lease in leases])
        ]

    async def look_at(self, leases: Sequence[Lease]) -> list[Hold | ResponseError]:
        """Do the same without renewing the leases."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for lease in leases:
                pipeline.hmget(self._keys.record(lease.job_id), "token", "nonce", "cancel_reason")
            answers = await pipeline.execute(raise_on_error=False)
        return [
            answer if isinstance(answer, ResponseError) else _read_hold(lease, *answer)
            for lease, answer in zip(leases, answers, strict=True)
        ]

    async def hand_back(self, lease: Lease, lease_ms: int) -> bool:
        """Let another coordinator take the job over as if the lease had ended, without counting an attempt.

        ``lease_ms`` is the length of a lease. Returns False if the lease was lost already.
        """
        return _to_hold(await self._bind_idle(lease, idle_ms=lease_ms).send(self._redis)).is_held

    async def promote_due(self) -> int:
        """Push up to 100 jobs again whose delay is over; return how many were pushed."""
        num_pushed = 0
        for job_id in await calls.find_due(self._redis, delayed=self._keys.delayed, limit=PROMOTE_COUNT):
            num_pushed += await calls.promote(
                self._redis,
                record=self._keys.record(job_id),
                lane=await self._read_lane(job_id),
                delayed=self._keys.delayed,
                job_id=job_id,
            )
        return num_pushed

    async def unpark(self, tenant: str) -> None:
        """Push a tenant's parked jobs again while it may have more jobs in flight."""
        parked = self._keys.parked(tenant)
        while first := await self._redis.lindex(parked, 0):
            job_id = first.decode()
            has_left = await calls.unpark(
                self._redis,
                record=self._keys.record(job_id),
                lane=await self._read_lane(job_id),
                tenants=self._keys.tenants,
                parked=parked,
                parked_tenants=self._keys.parked_tenants,
                job_id=job_id,
                tenant=tenant,
                max_in_flight=self._policy.max_jobs_per_tenant,
            )
            if not has_left:
                return

    async def unpark_all(self) -> None:
        """Unpark for every tenant that has parked jobs: a coordinator that was lost may have left some parked."""
        for tenant in await self._redis.smembers(self._keys.parked_tenants):
            await self.unpark(tenant.decode())

    async def _call_take(self, job_id: str, delivery: Delivery, tenant: str, nonce: str) -> Taken | None:
        return await calls.take(
            self._redis,
            record=self._keys.record(job_id),
            lane=delivery.lane,
            steps=self._keys.steps(job_id),
            results=self._keys.results,
            tenants=self._keys.tenants,
            dead_letters=self._keys.dead,
            parked=self._keys.parked(tenant),
            parked_tenants=self._keys.parked_tenants,
            config=self._keys.config,
            job_id=job_id,
            entry=delivery.entry_id,
            consumer=delivery.consumer,
            nonce=nonce,
            tenant=tenant,
            max_attempts=self._policy.max_attempts,
            max_in_flight=self._policy.max_jobs_per_tenant,
            dead_ms=self._policy.dead_ms,
        )

    def _bind_idle(self, lease: Lease, idle_ms: int) -> ScriptCall[str | None]:
        return calls.set_idle.bind(
            record=self._keys.record(lease.job_id),
            lane=lease.lane,
            token=lease.token,
            nonce=lease.nonce,
            entry=lease.entry_id,
            consumer=lease.consumer,
            idle_ms=idle_ms,
        )

    async def _read_lane(self, job_id: str) -> Key:
        """Return the stream that a job is pushed to again: the one that it came from."""
        return self._keys.lane_of(await self._redis.hget(self._keys.record(job_id), "lane"))


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(f"job {lease.job_id}: another coordinator has taken it")


def _to_hold(cancel_reason: str | None) -> Hold:
    return Hold(is_held=cancel_reason is not None, cancel_reason=cancel_reason or "")


def _read_hold(lease: Lease, token: bytes | None, nonce: bytes | None, reason: bytes | None) -> Hold:
    is_held = (token, nonce) == (str(lease.token).encode(), lease.nonce.encode())
    return Hold(is_held, reason.decode() if reason else "")
