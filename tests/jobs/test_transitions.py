"""Every script on a job in every state, on a real server: it moves the job exactly where the table allows it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gsi.jobs.check import QueueCheck
from gsi.jobs.connection import Redis
from gsi.jobs.dead_letters import DeadLetters
from gsi.jobs.job import Job
from gsi.jobs.keys import DEFAULT_TENANT, JOB_FIELD, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import TRANSITIONS, JobState
from gsi.jobs.stream import Delivery, JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter, Lease, LeaseLostError
from tests.jobs.sample import JOB, step

POLICY = Policy(max_attempts=2, max_jobs_per_tenant=3)
STATES: tuple[JobState | None, ...] = (None, *JobState)


class Sides:
    """A queue with one job in a given state. Its entry is held by a consumer, and it has a place in every list."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self.redis: Any = redis
        self.keys = Keys(queue)
        self.submitter = JobSubmitter(redis, self.keys, POLICY)
        self.writer = JobWriter(redis, self.keys, POLICY)
        self.reader = JobReader(redis, self.keys)
        self.dead = DeadLetters(redis, self.keys)
        self.entry_id = ""

    async def prepare(self, state: JobState | None, fields: dict[str, str | int], in_flight: int) -> None:
        await JobStream(self.redis, self.keys, "worker").create_group()
        entry = await self.redis.xadd(self.keys.jobs, {JOB_FIELD: "{}"})
        self.entry_id = entry.decode()
        await JobStream(self.redis, self.keys, "worker").take_new(1, 10)
        await self.redis.hset(self.keys.tenants, DEFAULT_TENANT, in_flight)
        await self.redis.zadd(self.keys.delayed, {JOB.id: 0})
        await self.redis.rpush(self.keys.parked(DEFAULT_TENANT), JOB.id)
        await self.redis.xadd(self.keys.dead, {"id": JOB.id, "reason": "tried", "error": "full"})
        if state is None:
            return
        record: dict[str, str | int] = {
            "state": state.value,
            "payload": "{}",
            "tenant": DEFAULT_TENANT,
            "lane": self.keys.jobs,
        }
        told = (
            record
            | {
                "entry_id": self.entry_id,
                "token": 1,
                "nonce": "nonce",
                "attempt": 1,
                "attempts_held": 1,
                "submitted_at": 1,
            }
            | fields
        )
        await self.redis.hset(self.keys.record(JOB.id), mapping={k: v for k, v in told.items() if v != ""})
        await self.redis.xadd(self.keys.steps(JOB.id), {"step": step(0).to_json(), "token": 1})

    @property
    def lease(self) -> Lease:
        return Lease(JOB.id, self.entry_id, 1, "nonce", self.keys.jobs, "worker")

    async def state(self) -> JobState | None:
        state = await self.redis.hget(self.keys.record(JOB.id), "state")
        return None if state is None else JobState(state.decode())

    async def job(self) -> dict[str, object]:
        """Return all that a move of the job changes. A request to cancel is no move."""
        fields = await self.redis.hgetall(self.keys.record(JOB.id))
        fields.pop(b"cancel_reason", None)
        fields.pop(b"lifetime", None)  # of the record, once it is cancelled
        streams: dict[str, object] = {
            str(key): await self.redis.xrange(key) for key in (self.keys.steps(JOB.id), self.keys.results)
        }
        return {"record": fields, "in flight": await self.redis.hgetall(self.keys.tenants), **streams}

    async def sizes(self) -> tuple[int, int]:
        return await self.redis.xlen(self.keys.jobs), await self.redis.xlen(self.keys.dead)


async def take(sides: Sides) -> None:
    await sides.writer.take(JOB.id, Delivery(sides.entry_id, b"{}", sides.keys.jobs, "worker", JOB.id))


@dataclass(frozen=True)
class Case:
    """A call of a script, and the state to which it moves the job where the table allows that."""

    script: str
    after: JobState | None
    call: Callable[[Sides], Awaitable[object]]
    fields: tuple[tuple[str, str | int], ...] = ()  # of the record; "": absent
    in_flight: int = 1  # jobs of the tenant

    def __str__(self) -> str:
        return f"{self.script}-{self.after}"


def commit_as(ending: JobState) -> Case:
    return Case("commit", ending, lambda sides: sides.writer.commit(sides.lease, JobResult(ending)))


async def repair(sides: Sides) -> None:
    async for _ in QueueCheck(sides.redis, sides.keys, repair=True).run():
        pass


NO_ENTRY = (("entry_id", "9-9"),)
LAST_ATTEMPT = (("attempts_held", POLICY.max_attempts),)
TO_BE_CANCELLED = (("cancel_reason", "not needed"), ("lifetime", 60_000))
CASES = [
    Case("submit", JobState.QUEUED, lambda sides: sides.submitter.submit(Job(JOB.id, JOB.payload))),
    Case("take", JobState.RUNNING, take),
    Case("take", JobState.QUEUED, take, in_flight=POLICY.max_jobs_per_tenant),
    Case("take", JobState.DEAD, take, LAST_ATTEMPT),
    Case("retry", JobState.QUEUED, lambda sides: sides.writer.retry(sides.lease, "full", 60)),
    Case("retry", JobState.DEAD, lambda sides: sides.writer.retry(sides.lease, "full", 60), LAST_ATTEMPT),
    Case("retry", JobState.QUEUED, lambda s: s.writer.retry(s.lease, "newer", 1, counts=False), LAST_ATTEMPT),
    Case("promote", JobState.QUEUED, lambda sides: sides.writer.promote_due(), (("entry_id", ""),)),
    Case("unpark", JobState.QUEUED, lambda sides: sides.writer.unpark(DEFAULT_TENANT), (("entry_id", ""),)),
    *(commit_as(state) for state in JobState),
    Case("cancel", JobState.CANCELLED, lambda sides: sides.submitter.cancel(JOB.id, "not needed", may_be_unseen=True)),
    Case("take", JobState.CANCELLED, take, TO_BE_CANCELLED),
    Case("retry", JobState.CANCELLED, lambda sides: sides.writer.retry(sides.lease, "full", 60), TO_BE_CANCELLED),
    Case("forget", None, lambda sides: sides.reader.forget(JOB.id), (("entry_id", ""),)),
    Case("check_job", JobState.QUEUED, repair, NO_ENTRY, in_flight=0),
    Case("check_job", JobState.FAILED, repair, (*NO_ENTRY, ("payload", "")), in_flight=0),
    Case("revive", JobState.QUEUED, lambda sides: sides.dead.retry_all()),
    Case("purge", None, lambda sides: sides.dead.purge()),
]


@pytest.mark.parametrize("before", STATES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_script_moves_a_job_exactly_where_the_table_allows_it(
    redis: Redis, queue: str, case: Case, before: JobState | None
) -> None:
    """Where no move is allowed, the job stays as it is, and neither an entry nor a dead letter is added."""
    sides = Sides(redis, queue)
    await sides.prepare(before, dict(case.fields), case.in_flight)
    job, sizes = await sides.job(), await sides.sizes()
    try:
        await case.call(sides)
    except LeaseLostError:
        assert before is None or case.script == "commit"
    after, allowed = await sides.state(), TRANSITIONS[case.script].get(before, ())
    if case.after in allowed:
        assert after == case.after
        assert await sides.job() != job
    elif case.script == "take" and allowed:  # to another state: a redelivery is not parked, a new job is not dead
        assert after in allowed
    else:
        assert await sides.job() == job
        assert all(now <= then for now, then in zip(await sides.sizes(), sizes, strict=True))


def test_every_move_of_the_table_is_tried() -> None:
    """A row that is added needs a case."""
    rows = {(script, after) for script, moves in TRANSITIONS.items() for all_ in moves.values() for after in all_}
    assert rows <= {(case.script, case.after) for case in CASES}
