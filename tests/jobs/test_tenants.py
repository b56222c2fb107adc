"""Tenants: a limit on each tenant's jobs in flight, so that one large batch does not block the others."""

import json
from typing import Any

import pytest

from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, claim, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter, Lease

PAYLOAD = parse_payload({"prompt": "2 + 3"})
DONE = JobResult(JobState.SUCCEEDED)


class Queue:
    """A queue with a limit of two jobs in flight per tenant, and a coordinator that takes every entry."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self.keys = Keys(queue)
        self.redis: Any = redis
        self.submitter, self.reader = JobSubmitter(redis, self.keys), JobReader(redis, self.keys)
        self.writer = JobWriter(redis, self.keys, Policy(max_attempts=2, max_jobs_per_tenant=2))
        self.stream = JobStream(redis, self.keys, "worker")

    async def submit(self, job_id: str, tenant: str) -> None:
        await self.submitter.submit(Job(job_id, PAYLOAD.model_copy(update={"tenant": tenant})))

    async def take(self, count: int = 100) -> dict[str, Lease]:
        """Take entries; return the leases of the jobs that may run, by id."""
        leases = {}
        for delivery in await self.stream.take_new(count, 20):
            claimed = claim(delivery.payload)
            assert claimed.id is not None
            lease = await self.writer.take(claimed.id, delivery, claimed.tenant)
            if lease is not None:
                leases[claimed.id] = lease
        return leases

    async def in_flight(self) -> dict[str, int]:
        found = await self.redis.hgetall(self.keys.tenants)
        return {tenant.decode(): int(count) for tenant, count in found.items()}


@pytest.fixture
async def crowded(redis: Redis, queue: str) -> Queue:
    """Tenant a has submitted five jobs, and then tenant b one job."""
    crowded = Queue(redis, queue)
    await crowded.stream.create_group()
    for number in range(5):
        await crowded.submit(f"a-{number}", "a")
    await crowded.submit("b-0", "b")
    return crowded


async def test_a_tenant_s_batch_does_not_block_another_s_job(crowded: Queue) -> None:
    """Jobs beyond the limit are parked, still QUEUED, and the next tenant's job is reached."""
    leases = await crowded.take()
    assert set(leases) == {"a-0", "a-1", "b-0"}
    assert await crowded.in_flight() == {"a": 2, "b": 1}
    record = await crowded.reader.record("a-3")
    assert record is not None
    assert record.state is JobState.QUEUED


async def test_a_job_set_aside_runs_when_one_of_its_tenant_ends(crowded: Queue) -> None:
    """Parked jobs run in the order of submission, never more at a time than the limit."""
    leases = await crowded.take()
    order = []
    while leases:
        job_id = next(iter(leases))
        lease = leases.pop(job_id)
        order.append(job_id)
        await crowded.writer.commit(lease, DONE)
        await crowded.writer.unpark(lease.tenant)
        leases |= await crowded.take()
        assert all(count <= 2 for count in (await crowded.in_flight()).values())
    assert [job_id for job_id in order if job_id.startswith("a")] == [f"a-{number}" for number in range(5)]
    assert await crowded.in_flight() == {}
    assert await crowded.redis.exists(crowded.keys.parked("a"), crowded.keys.parked_tenants) == 0


async def test_what_a_lost_coordinator_did_not_push_another_does(crowded: Queue) -> None:
    """The coordinator ended a job and was lost before it pushed the next one."""
    leases = await crowded.take()
    await crowded.writer.commit(leases["a-0"], DONE)
    await crowded.writer.unpark_all()
    await crowded.writer.unpark_all()
    assert set(await crowded.take()) == {"a-2"}


async def test_a_job_that_is_put_off_or_dead_leaves_its_place(crowded: Queue) -> None:
    """The next job of its tenant may run in that time."""
    leases = await crowded.take()
    await crowded.writer.retry(leases["a-0"], "full", delay_seconds=60)
    assert await crowded.in_flight() == {"a": 1, "b": 1}
    await crowded.writer.unpark("a")
    leases |= await crowded.take()
    assert "a-2" in leases


async def test_a_job_that_is_taken_over_keeps_its_place(crowded: Queue) -> None:
    """A redelivery is the same job in flight."""
    await crowded.take()
    (delivery, *_) = await crowded.stream.take_over(1, min_idle_ms=0)
    claimed = claim(delivery.payload)
    assert claimed.id is not None
    assert await crowded.writer.take(claimed.id, delivery, claimed.tenant)
    assert await crowded.in_flight() == {"a": 2, "b": 1}


async def test_a_job_set_aside_can_be_cancelled(crowded: Queue) -> None:
    """It is never pushed again, and the job behind it moves up."""
    leases = await crowded.take()
    assert await crowded.submitter.cancel("a-2", "not needed") is JobState.QUEUED
    await crowded.writer.commit(leases["a-0"], DONE)
    await crowded.writer.unpark("a")
    assert set(await crowded.take()) == {"a-3"}


async def test_a_place_that_was_reserved_for_a_cancelled_job_is_given_back(crowded: Queue) -> None:
    """The job is cancelled after it was pushed again and before it is taken."""
    leases = await crowded.take()
    await crowded.writer.commit(leases["a-0"], DONE)
    await crowded.writer.unpark("a")
    assert await crowded.in_flight() == {"a": 2, "b": 1}
    assert await crowded.submitter.cancel("a-2", "not needed") is JobState.QUEUED
    assert await crowded.in_flight() == {"a": 1, "b": 1}
    assert await crowded.take() == {}


@pytest.mark.parametrize(
    ("raw", "job_id", "tenant"),
    [
        ('{"id":"x","tenant":"acme","prompt":"?"}', "x", "acme"),
        ('{"prompt":5,"id":"x"}', "x", "default"),
        ('{"tenant":"no spaces","id":"x"}', "x", "default"),
        ('{"tenant":7,"id":[]}', None, "default"),
        ("[1]", None, "default"),
        ("not json", None, "default"),
        ("[" * 100_000, None, "default"),
        (json.dumps({"id": "x", "prompt": "y" * 5_000_000}), None, "default"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_payload_is_claimed_however_wrong_the_rest_of_it_is(raw: str, job_id: str | None, tenant: str) -> None:
    """Its refusal can then be written to the record that its owner reads."""
    assert (claim(raw).id, claim(raw).tenant) == (job_id, tenant)
