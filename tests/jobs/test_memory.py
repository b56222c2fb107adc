"""Ten thousand jobs leave the server's memory as it was, apart from the results stream."""

import asyncio
from typing import Any

from gsi.jobs.admin import QueueAdmin
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, claim, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.state import JobState
from gsi.jobs.stream import Delivery, JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter
from tests.jobs.sample import step

NUM_JOBS = 10_000
AT_ONCE = 200
LIFETIME_SECONDS = 0.5
SLACK_BYTES = 2_000_000  # the announcements of 10,000 results, and what the server keeps of its own
PAYLOAD = parse_payload({"prompt": "How much is 2 + 3?", "tenant": "acme", "idempotency_key": None})


async def test_ten_thousand_jobs_leave_nothing_but_their_announcements(redis: Redis, queue: str) -> None:
    """Entries are freed with their job, records and steps expire, and no pending entry or tenant is left."""
    server: Any = redis
    keys = Keys(queue)
    submitter, writer = JobSubmitter(redis, keys), JobWriter(redis, keys)
    stream, admin = JobStream(redis, keys, "worker"), QueueAdmin(redis, keys)
    await stream.create_group()

    async def run(delivery: Delivery) -> None:
        claimed = claim(delivery.payload)
        assert claimed.id is not None
        lease = await writer.take(claimed.id, delivery, claimed.tenant)
        assert lease is not None
        await writer.append_step(lease, step(0))
        await writer.commit(lease, JobResult(JobState.SUCCEEDED, text="5", lifetime_seconds=LIFETIME_SECONDS))

    before, used_before = await admin.stats(), (await server.info("memory"))["used_memory"]
    for first in range(0, NUM_JOBS, AT_ONCE):
        await asyncio.gather(*(submitter.submit(Job(f"job-{first + n}", PAYLOAD)) for n in range(AT_ONCE)))
        await asyncio.gather(*(run(delivery) for delivery in await stream.take_new(AT_ONCE, 1_000)))
    await asyncio.sleep(LIFETIME_SECONDS + 0.1)
    after = await admin.stats()  # which looks at every key: what has expired is gone then
    assert {kind: number for kind, number in after.keys.items() if kind not in {"results", "config"}} == before.keys
    assert (after.lag, after.pending, after.delayed, after.dead) == (0, 0, 0, 0)
    assert (await server.info("memory"))["used_memory"] - used_before < SLACK_BYTES
