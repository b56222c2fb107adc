"""What a coordinator measures of its queue: the longest wait, the oldest lease, and the jobs that are in no lane."""

import asyncio
from typing import Any

import pytest

from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import GROUP, Keys, Priority
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader, SetAside
from gsi.jobs.stream import MAX_LEASES, Ages, JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter, Lease

PAYLOAD = parse_payload({"prompt": "2 + 3"})
MINUTE_MS = 60_000


class Queue:
    """A queue with a limit of one job in flight per tenant, and a coordinator that takes every entry."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self.keys = Keys(queue)
        self.redis: Any = redis
        self.submitter, self.reader = JobSubmitter(redis, self.keys), JobReader(redis, self.keys)
        self.writer = JobWriter(redis, self.keys, Policy(max_attempts=2, max_jobs_per_tenant=1))
        self.stream = JobStream(redis, self.keys, "worker")

    async def push(self, lane: Priority, age_ms: int) -> str:
        """Push an entry with the age of ``age_ms``; return its id. Each lane's oldest entry must be pushed first."""
        seconds, microseconds = await self.redis.time()
        entry_id = f"{seconds * 1000 + microseconds // 1000 - age_ms}-0"
        await self.redis.xadd(self.keys.lane(lane), {"job": '{"prompt":"2 + 3"}'}, id=entry_id)
        return entry_id

    async def take_one(self, job_id: str) -> Lease | None:
        (delivery,) = await self.stream.take_new(1, 20)
        return await self.writer.take(job_id, delivery)

    async def leave_for(self, entry_id: str, idle_ms: int, lane: Priority = Priority.NORMAL) -> None:
        """Set a lease's age, as if its coordinator had not renewed it."""
        await self.redis.xclaim(self.keys.lane(lane), GROUP, "worker", 0, [entry_id], idle=idle_ms)


@pytest.fixture
async def made(redis: Redis, queue: str) -> Queue:
    made = Queue(redis, queue)
    await made.stream.create_group()
    return made


async def test_an_empty_queue_waits_for_nothing(made: Queue) -> None:
    """The answers are zeros, so that the series exist and an alert can use them."""
    assert await made.stream.ages() == Ages(0.0, 0.0)
    assert await made.reader.set_aside() == SetAside(0, 0, 0)


async def test_the_oldest_entry_that_nobody_has_taken_tells_how_long_jobs_wait(made: Queue) -> None:
    """All lanes count, by the server's clock; an entry that is taken no longer counts, however old it is."""
    await made.push(Priority.NORMAL, 3 * MINUTE_MS)
    await made.push(Priority.NORMAL, 2 * MINUTE_MS)
    await made.push(Priority.LOW, MINUTE_MS)
    assert (await made.stream.ages()).oldest_waiting_seconds == pytest.approx(180, abs=5)
    await made.stream.take_new(1, 20)
    assert (await made.stream.ages()).oldest_waiting_seconds == pytest.approx(120, abs=5)
    await made.stream.take_new(1, 20)
    assert (await made.stream.ages()).oldest_waiting_seconds == pytest.approx(60, abs=5)
    await made.stream.take_new(1, 20)
    assert (await made.stream.ages()).oldest_waiting_seconds == 0


async def test_an_entry_of_the_future_does_not_wait_for_less_than_nothing(made: Queue) -> None:
    """A client may choose the entry's id, and its clock may be ahead."""
    await made.push(Priority.HIGH, -MINUTE_MS)
    assert (await made.stream.ages()).oldest_waiting_seconds == 0


async def test_the_lease_that_was_not_renewed_the_longest_tells_its_age(made: Queue) -> None:
    """Its entry may have any place; renewing the lease resets its age."""
    entries = [await made.push(Priority.NORMAL, 1000 - place) for place in range(3)]
    low = await made.push(Priority.LOW, 1000)
    await made.stream.take_new(4, 20)
    assert (await made.stream.ages()).lease_seconds < 5
    await made.leave_for(entries[1], MINUTE_MS)
    await made.leave_for(low, 2 * MINUTE_MS, Priority.LOW)
    assert (await made.stream.ages()).lease_seconds == pytest.approx(120, abs=5)
    await made.leave_for(low, 0, Priority.LOW)
    assert (await made.stream.ages()).lease_seconds == pytest.approx(60, abs=5)


async def test_ages_of_a_queue_that_nobody_has_read_are_known(redis: Redis, queue: str) -> None:
    """A new server, or one that came back empty, has neither lanes nor group."""
    made = Queue(redis, queue)
    await made.push(Priority.NORMAL, MINUTE_MS)
    assert (await made.stream.ages()).oldest_waiting_seconds == pytest.approx(60, abs=5)


async def test_looking_costs_no_more_than_the_oldest_leases(made: Queue) -> None:
    """Measuring a queue with many thousand jobs in flight does not slow the server down."""
    async with made.redis.pipeline(transaction=False) as pipeline:
        for _ in range(MAX_LEASES + 100):
            pipeline.xadd(made.keys.jobs, {"job": "{}"})
        await pipeline.execute()
    await made.stream.take_new(MAX_LEASES + 100, 20)
    before = await commands(made.redis)
    await made.stream.ages()
    await made.reader.set_aside()
    assert await commands(made.redis) - before < 20
    oldest = (await made.redis.xpending_range(made.keys.jobs, GROUP, "-", "+", count=1))[0]["message_id"]
    await made.leave_for(oldest.decode(), MINUTE_MS)
    assert (await made.stream.ages()).lease_seconds == pytest.approx(60, abs=5)


async def commands(redis: Any) -> int:
    return int((await redis.info("stats"))["total_commands_processed"])


async def test_jobs_that_are_in_no_lane_are_counted(made: Queue) -> None:
    """A job may be delayed, parked behind its tenant's limit, or dead; it leaves that place when it is pushed again."""
    for job_id in ("job-1", "job-2", "job-3"):
        await made.submitter.submit(Job(job_id, PAYLOAD))
    lease = await made.take_one("job-1")
    assert lease is not None
    assert await made.take_one("job-2") is None
    assert await made.take_one("job-3") is None
    assert await made.reader.set_aside() == SetAside(dead=0, delayed=0, parked=2)
    await made.writer.retry(lease, "it was full", delay_seconds=0.01)
    assert await made.reader.set_aside() == SetAside(dead=0, delayed=1, parked=2)
    await asyncio.sleep(0.02)
    assert await made.writer.promote_due() == 1
    lease = await made.take_one("job-1")
    assert lease is not None
    await made.writer.retry(lease, "it was full", delay_seconds=0.01)
    await made.writer.unpark_all()
    assert await made.reader.set_aside() == SetAside(dead=1, delayed=0, parked=1)
