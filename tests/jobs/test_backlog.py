"""How many jobs wait and how many are in flight, whatever the server says of the group's lag."""

from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.state import JobState
from gsi.jobs.stream import Backlog, JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter

PAYLOAD = parse_payload({"prompt": "2 + 3"})


async def test_what_waits_is_known_when_the_job_taken_last_ends_first(redis: Redis, queue: str) -> None:
    """The server no longer knows its lag then; autoscaling and dashboards still see the jobs that wait."""
    keys = Keys(queue)
    submitter, writer, stream = JobSubmitter(redis, keys), JobWriter(redis, keys), JobStream(redis, keys, "worker")
    await stream.create_group()
    for number in range(5):
        await submitter.submit(Job(f"job-{number}", PAYLOAD))
    deliveries = await stream.take_new(2, 20)
    leases = [await writer.take(f"job-{number}", delivery) for number, delivery in enumerate(deliveries)]
    assert leases[1] is not None
    await writer.commit(leases[1], JobResult(JobState.SUCCEEDED))
    groups = await redis.xinfo_groups(keys.jobs)
    assert groups[0]["lag"] is None
    assert await stream.backlog() == Backlog(lag=3, pending=1)
    await stream.take_new(1, 20)
    assert await stream.backlog() == Backlog(lag=2, pending=2)
