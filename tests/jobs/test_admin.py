"""What operators see of a queue, and what they set."""

import asyncio

import pytest

from gsi.errors import InvalidRequestError
from gsi.jobs.admin import QueueAdmin
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter

PAYLOAD = parse_payload({"prompt": "2 + 3"})


async def test_stats_count_jobs_keys_and_bytes(redis: Redis, queue: str) -> None:
    """The counts are by a job's place in its life; another queue's keys do not count."""
    keys = Keys(queue)
    submitter, writer = JobSubmitter(redis, keys), JobWriter(redis, keys)
    stream, admin = JobStream(redis, keys, "worker"), QueueAdmin(redis, keys)
    await stream.create_group()
    await JobSubmitter(redis, Keys(f"{queue}-other")).submit(Job("elsewhere", PAYLOAD))
    for number in range(4):
        await submitter.submit(Job(f"job-{number}", PAYLOAD))
    done, delayed, running = [await writer.take(f"job-{n}", d) for n, d in enumerate(await stream.take_new(3, 50))]
    assert done
    assert delayed
    assert running
    await writer.commit(done, JobResult(JobState.SUCCEEDED))
    await writer.retry(delayed, "full", delay_seconds=60)
    stats = await admin.stats()
    assert (stats.lag, stats.pending, stats.delayed, stats.dead) == (1, 1, 1, 0)
    assert stats.entries == {"high": 0, "normal": 2, "low": 0}
    assert stats.keys["records"] == 4
    assert all(size > 0 for size in stats.bytes.values())


async def test_what_is_set_is_seen_and_can_be_taken_back(redis: Redis, queue: str) -> None:
    """A pause and a limit stay until somebody ends them."""
    admin = QueueAdmin(redis, Keys(queue))
    await admin.pause()
    await admin.limit(50)
    stats = await admin.stats()
    assert (stats.is_paused, stats.max_jobs) == (True, 50)
    await admin.resume()
    await admin.limit(None)
    stats = await admin.stats()
    assert (stats.is_paused, stats.max_jobs) == (False, None)
    with pytest.raises(InvalidRequestError, match="max_jobs: 0 is not allowed; allowed: 1 to"):
        await admin.limit(0)


async def test_finished_jobs_leave_the_memory_that_was_there_before(redis: Redis, queue: str) -> None:
    """Once their lifetime is over, only the results stream and the queue's counter of tokens are left."""
    keys = Keys(queue)
    submitter, writer = JobSubmitter(redis, keys), JobWriter(redis, keys)
    stream, admin = JobStream(redis, keys, "worker"), QueueAdmin(redis, keys)
    await stream.create_group()
    before = (await admin.stats()).keys
    for number in range(200):
        await submitter.submit(Job(f"job-{number}", PAYLOAD))
        (delivery,) = await stream.take_new(1, 50)
        lease = await writer.take(f"job-{number}", delivery)
        assert lease
        await writer.commit(lease, JobResult(JobState.SUCCEEDED, lifetime_seconds=0.001))
    await asyncio.sleep(0.05)  # the last one's lifetime
    await asyncio.sleep(0.05)
    after = (await admin.stats()).keys
    assert {kind: count for kind, count in after.items() if kind not in {"results", "config"}} == before
