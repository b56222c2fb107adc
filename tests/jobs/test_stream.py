"""The jobs streams: the group reads every entry, the lanes share the slots, and a paused queue gives none."""

import asyncio
import json
from collections import Counter

import pytest

from gsi.jobs.connection import Redis
from gsi.jobs.job import Job
from gsi.jobs.keys import Keys, Priority
from gsi.jobs.reader import JobReader, QueueConfig
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter
from tests.jobs.sample import DONE, JOB, of_priority, take


async def test_jobs_pushed_before_the_first_coordinator_are_read(redis: Redis, keys: Keys) -> None:
    """The group starts at 0: what was pushed earlier is not skipped."""
    await redis.xadd(keys.jobs, {"job": '{"prompt":"early"}'})
    stream = JobStream(redis, keys, "late")
    await stream.create_group()
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert json.loads(delivery.payload) == {"prompt": "early"}


async def test_a_server_that_came_back_empty_gets_its_group_again(
    redis: Redis, keys: Keys, submitter: JobSubmitter, stream: JobStream
) -> None:
    """The coordinator continues by itself when the server has lost everything."""
    await redis.delete(keys.jobs)
    assert await stream.take_new(count=1, block_ms=10) == []
    await submitter.submit(JOB)
    assert len(await stream.take_new(count=1, block_ms=100)) == 1


async def test_the_lag_stays_known_when_finished_entries_are_freed(
    submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """Autoscalers read the lag. Deleting undelivered entries would make it unknown; deleting finished ones does not."""
    await submitter.submit(JOB)
    await submitter.submit(Job("job-2", JOB.payload))
    lease = await take(writer, stream)
    await writer.commit(lease, DONE)
    assert (await stream.backlog()).lag == 1


async def test_high_goes_before_normal_before_low_and_none_starves(submitter: JobSubmitter, stream: JobStream) -> None:
    """While each lane has jobs, they get six, three and one of ten slots; unused slots go to the other lanes."""
    for number in range(20):
        for priority in Priority:
            await submitter.submit(of_priority(f"{priority}-{number}", priority))
    taken = [json.loads(delivery.payload)["id"] for _ in range(10) for delivery in await stream.take_new(1, 50)]
    assert Counter(job_id.split("-")[0] for job_id in taken) == {"high": 6, "normal": 3, "low": 1}
    assert [job_id for job_id in taken if job_id.startswith("high")] == [f"high-{number}" for number in range(6)]
    assert len(await stream.take_new(50, 50)) == 50
    assert await stream.take_new(1, 10) == []


@pytest.mark.parametrize("priority", Priority)
async def test_a_lane_alone_gets_every_slot(
    submitter: JobSubmitter, writer: JobWriter, stream: JobStream, priority: Priority
) -> None:
    """Its share is a minimum, not a maximum. Its jobs run, are delayed and end as in any other lane."""
    for number in range(12):
        await submitter.submit(of_priority(f"job-{number}", priority))
    deliveries = await stream.take_new(12, 50)
    assert [json.loads(delivery.payload)["id"] for delivery in deliveries] == [f"job-{number}" for number in range(12)]
    lease = await writer.take("job-0", deliveries[0])
    assert lease is not None
    await writer.retry(lease, "full", delay_seconds=0)
    await writer.promote_due()
    (again,) = await stream.take_new(1, 50)
    assert again.lane == deliveries[0].lane
    lease = await writer.take("job-0", again)
    assert lease is not None
    await writer.commit(lease, DONE)
    assert (await stream.backlog()).pending == 11


async def test_a_job_that_comes_while_nobody_has_work_is_taken_soon(submitter: JobSubmitter, stream: JobStream) -> None:
    """The first job in any lane ends the wait."""
    waiting = asyncio.create_task(stream.take_new(1, 5_000))
    await asyncio.sleep(0.1)
    await submitter.submit(of_priority("late", Priority.LOW))
    async with asyncio.timeout(2):
        found = await waiting or await stream.take_new(1, 1_000)
    assert [json.loads(delivery.payload)["id"] for delivery in found] == ["late"]


async def test_nothing_new_is_taken_while_the_queue_is_paused(
    redis: Redis, keys: Keys, submitter: JobSubmitter, reader: JobReader, stream: JobStream
) -> None:
    """Submissions are accepted, and jobs that run continue."""
    await submitter.submit(JOB)
    await redis.hset(keys.config, "paused", "1")
    assert await reader.config() == QueueConfig(is_paused=True)
    assert await stream.take_new(1, 10) == []
    await redis.hdel(keys.config, "paused")
    assert await reader.config() == QueueConfig()
    assert len(await stream.take_new(1, 10)) == 1
