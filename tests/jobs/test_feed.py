"""One connection follows many jobs: each step once and in order, each end, and no job for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from gsi.errors import InvalidRequestError
from gsi.jobs.connection import Redis
from gsi.jobs.feed import JobFeed, Watch
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter, Lease
from tests.jobs.sample import DONE, step

PROMPT = parse_payload({"prompt": "2 + 3"})


@dataclass
class Queue:
    """A queue whose jobs the test runs itself."""

    feed: JobFeed
    submitter: JobSubmitter
    stream: JobStream
    writer: JobWriter
    redis: Any
    keys: Keys

    async def take(self, job_id: str) -> Lease:
        await self.submitter.submit(Job(job_id, PROMPT))
        (delivery,) = await self.stream.take_new(count=1, block_ms=1000)
        lease = await self.writer.take(job_id, delivery)
        assert lease is not None
        return lease

    async def end(self, lease: Lease) -> None:
        await self.writer.commit(lease, DONE)


@pytest.fixture
async def running(redis: Redis, queue: str) -> AsyncIterator[Queue]:
    keys = Keys(queue)
    stream = JobStream(redis, keys, "worker")
    await stream.create_group()
    feed = JobFeed(redis, keys)
    task = asyncio.create_task(feed.run())
    yield Queue(feed, JobSubmitter(redis, keys), stream, JobWriter(redis, keys), redis, keys)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def indices(watch: Watch) -> list[int]:
    return [step.index async for step in watch.steps()]


async def test_every_watch_gets_every_step_of_its_own_job_and_the_end(running: Queue) -> None:
    """Ten jobs at once, two watches of each, steps of all jobs interleaved."""
    jobs = [f"job-{number}" for number in range(10)]
    leases = [await running.take(job_id) for job_id in jobs]
    with ExitStack() as stack:
        watches = [stack.enter_context(running.feed.watch(job_id)) for job_id in [*jobs, *jobs]]
        read = [asyncio.create_task(indices(watch)) for watch in watches]
        await running.feed.refresh()
        for index in range(3):
            for lease in leases:
                await running.writer.append_step(lease, step(index))
        for lease in leases:
            await running.end(lease)
        async with asyncio.timeout(10):
            assert await asyncio.gather(*read) == [[0, 1, 2]] * 20


async def test_a_job_that_ended_before_it_was_watched_is_read_whole(running: Queue) -> None:
    """Its announcement is over: the states of watched jobs are read, too."""
    lease = await running.take("early")
    await running.writer.append_step(lease, step(0))
    await running.end(lease)
    with running.feed.watch("early") as watch:
        async with asyncio.timeout(10):
            assert await indices(watch) == [0]


async def test_a_new_watch_does_not_wait_for_the_read_before(running: Queue) -> None:
    """The read in progress waits for a second; a step is there within a fraction of it."""
    lease = await running.take("quick")
    await asyncio.sleep(0.1)  # the read has begun
    with running.feed.watch("quick") as watch:
        await running.feed.refresh()
        await running.writer.append_step(lease, step(0))
        steps = watch.steps()
        async with asyncio.timeout(0.5):
            assert (await anext(steps)).index == 0
        await steps.aclose()


async def test_a_watch_of_a_job_that_is_deleted_says_so(running: Queue) -> None:
    """Nobody waits for what cannot come."""
    await running.take("gone")
    with running.feed.watch("gone") as watch:
        await running.feed.check_states()
        await running.redis.delete(running.keys.record("gone"))
        with pytest.raises(InvalidRequestError, match="job gone was deleted"):
            async with asyncio.timeout(10):
                await indices(watch)


async def test_a_stream_that_wakes_a_feed_does_not_stay(running: Queue) -> None:
    """A gateway that is gone leaves nothing behind for long."""
    await asyncio.sleep(0.1)
    with running.feed.watch("any"):
        await running.feed.refresh()
        (key,) = [key async for key in running.redis.scan_iter(match=running.keys.wake("*"))]
        assert 0 < await running.redis.pttl(key) <= 60_000


async def test_a_lost_connection_loses_no_step(running: Queue) -> None:
    """The server closes every connection between two steps."""
    lease = await running.take("cut")
    with running.feed.watch("cut") as watch:
        read = asyncio.create_task(indices(watch))
        await running.feed.refresh()
        await running.writer.append_step(lease, step(0))
        await running.redis.client_kill_filter(_type="normal", skipme=True)
        await running.writer.append_step(lease, step(1))
        await running.end(lease)
        async with asyncio.timeout(20):
            assert await read == [0, 1]


async def test_an_end_whose_announcement_is_lost_is_noticed(running: Queue) -> None:
    """As by a failover that loses the server's last writes: the job's record says that it has ended."""
    lease = await running.take("silent")
    with running.feed.watch("silent") as watch:
        await running.feed.refresh()
        async with running.redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(running.keys.record("silent"), "state", JobState.SUCCEEDED)
            await pipeline.execute()
        async with asyncio.timeout(10):
            assert await indices(watch) == []
    assert lease.job_id == "silent"
