"""The reader's side: a job is followed step by step, or awaited."""

import asyncio
import json

from gsi.jobs.connection import MAX_CONNECTIONS
from gsi.jobs.job import Job
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter
from tests.jobs.sample import DONE, JOB, step, take


async def test_a_follower_sees_every_step_and_then_the_end(
    submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """It sees the steps kept before it began, and those kept while it watches."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.append_step(lease, step(0, "first\n\n"))
    seen = []
    async for record in reader.follow(JOB.id):
        seen.append(record.text)
        if len(seen) == 1:
            await writer.append_step(lease, step(1, "second\n\n"))
            await writer.commit(lease, DONE)
    assert seen == ["first\n\n", "second\n\n"]


async def test_more_jobs_than_connections_can_be_waited_for(
    submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """Waiting holds no connection, so hundreds can wait at once and the worker beside them is not held up."""
    jobs = [Job(f"many-{number}", JOB.payload) for number in range(MAX_CONNECTIONS + 20)]
    for job in jobs:
        await submitter.submit(job)

    async def finish_all() -> None:
        for delivery in await stream.take_new(count=len(jobs), block_ms=100):
            lease = await writer.take(json.loads(delivery.payload)["id"], delivery)
            assert lease is not None
            await writer.commit(lease, DONE)

    *records, _ = await asyncio.gather(*(reader.wait(job.id, 30) for job in jobs), finish_all())
    assert {record.state for record in records if record} == {JobState.SUCCEEDED}
