"""A queue that no coordinator reads: its jobs wait, and a test takes, kills or ends them itself."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys
from gsi.jobs.policy import Policy
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobResult, JobWriter, Lease


@dataclass(frozen=True)
class IdleQueue:
    """The queue, and what a coordinator does to it."""

    name: str
    stream: JobStream
    writer: JobWriter

    async def take(self, job_id: str) -> Lease:
        """Take all jobs, and return the lease of one."""
        leases = {}
        for delivery in await self.stream.take_new(100, 100):
            found = delivery.job_id or json.loads(delivery.payload)["id"]
            leases[found] = await self.writer.take(found, delivery)
        lease = leases[job_id]
        assert lease is not None
        return lease

    async def kill(self, job_id: str, error: str) -> None:
        """Take a job, and let its only attempt fail."""
        assert await self.writer.retry(await self.take(job_id), error, 0) is JobState.DEAD

    async def answer(self, job_id: str, answer: str) -> None:
        """Take a job, and end it with an answer."""
        await self.writer.commit(await self.take(job_id), JobResult(JobState.SUCCEEDED, text=answer, answer=answer))


@asynccontextmanager
async def idle_queue(redis_url: str, name: str) -> AsyncIterator[IdleQueue]:
    """Open a queue as its only coordinator, which a job's first failure kills."""
    async with aclosing(connect(redis_url)) as redis:
        keys = Keys(name)
        stream = JobStream(redis, keys, "worker-1")
        await stream.create_group()
        yield IdleQueue(name, stream, JobWriter(redis, keys, Policy(max_attempts=1)))
