"""The submitter's side: a job is pushed once, refused if the queue is full, and cancelled in every state."""

import pytest

from gsi.errors import RetryableError
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job
from gsi.jobs.keys import Keys, Priority
from gsi.jobs.reader import JobReader, QueueConfig
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter
from tests.jobs.sample import DONE, JOB, of_priority, take


async def test_a_submitted_job_can_be_asked_for_while_it_is_queued(
    submitter: JobSubmitter, reader: JobReader, stream: JobStream
) -> None:
    """The SDK writes the record, so nobody has to guess whether the job arrived."""
    assert not await reader.exists(JOB.id)
    assert await submitter.submit(JOB) == JOB.id
    record = await reader.record(JOB.id)
    assert record is not None
    assert record.state is JobState.QUEUED
    assert await reader.exists(JOB.id)


async def test_submitting_an_id_twice_pushes_it_once(submitter: JobSubmitter, stream: JobStream) -> None:
    """A client that retries a submission cannot start a second run."""
    assert await submitter.submit(JOB) == JOB.id
    assert await submitter.submit(JOB) == JOB.id
    assert len(await stream.take_new(count=10, block_ms=50)) == 1


async def test_an_idempotency_key_leads_to_the_first_job(
    submitter: JobSubmitter, reader: JobReader, stream: JobStream
) -> None:
    """A client may send a submission again if it does not know whether the first one arrived. Keys are per tenant."""
    keyed = JOB.payload.model_copy(update={"idempotency_key": "order 66"})
    assert await submitter.submit(Job("a", keyed)) == "a"
    assert await submitter.submit(Job("b", keyed)) == "a"
    assert await submitter.submit(Job("c", keyed.model_copy(update={"tenant": "other"}))) == "c"
    assert await reader.record("b") is None
    assert len(await stream.take_new(10, 50)) == 2


async def test_a_full_queue_refuses_with_the_time_to_come_back(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """Nothing is left of the refused job. A job that ends makes room."""
    await redis.hset(keys.config, "max_jobs", "2")
    await submitter.submit(of_priority("a", Priority.HIGH))
    await submitter.submit(JOB)
    with pytest.raises(RetryableError, match=r"is full: 2 jobs; come back in \d+ s") as error:
        await submitter.submit(Job("late", JOB.payload))
    assert error.value.retry_after_seconds
    assert await reader.record("late") is None
    assert await reader.config() == QueueConfig(is_paused=False, num_refused=1)
    (delivery,) = await stream.take_new(1, 50)
    lease = await writer.take("a", delivery)
    assert lease is not None
    await writer.commit(lease, DONE)
    assert await submitter.submit(Job("late", JOB.payload)) == "late"
    assert await reader.exists("late")


async def test_a_queued_job_is_cancelled_at_once_and_never_run(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """Its entry stays until it is delivered: deleting it before would make the group's lag unknown."""
    await submitter.submit(JOB)
    assert await submitter.cancel(JOB.id, "not needed") is JobState.QUEUED
    record = await reader.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["error"]) == (JobState.CANCELLED, "not needed")
    assert (await stream.backlog()).lag == 1
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert await writer.take(JOB.id, delivery) is None
    assert await redis.xlen(keys.jobs) == 0
    assert (await stream.backlog()).lag == 0


async def test_a_job_that_nobody_has_seen_yet_can_be_cancelled(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """A bare XADD makes no record. Cancelling makes one, and the job is dropped when it is delivered."""
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"hello"}'})
    assert await submitter.cancel(JOB.id, "not needed") is None
    assert await submitter.cancel(JOB.id, "not needed", may_be_unseen=True) is JobState.QUEUED
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert await writer.take(JOB.id, delivery) is None
    record = await reader.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["error"]) == (JobState.CANCELLED, "not needed")
    assert await redis.pttl(keys.record(JOB.id)) > 0
    assert (await stream.backlog()).pending == 0


async def test_a_running_job_is_asked_to_stop_and_its_run_learns_why(
    submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """The first reason counts; a finished job stays as it is."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    assert await submitter.cancel(JOB.id, "too dear") is JobState.RUNNING
    assert await submitter.cancel(JOB.id, "again") is JobState.RUNNING
    assert (await writer.look_at(lease)).cancel_reason == "too dear"
    assert (await writer.renew(lease)).cancel_reason == "too dear"
    await writer.commit(lease, JobResult(JobState.CANCELLED, error="too dear"))
    assert await submitter.cancel(JOB.id, "late") is JobState.CANCELLED
    assert await submitter.cancel("nobody", "?") is None


async def test_a_job_that_waits_for_its_next_attempt_is_cancelled_at_once(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """It is not pushed when its delay is over."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.retry(lease, "full", delay_seconds=0)
    assert await submitter.cancel(JOB.id, "enough") is JobState.QUEUED
    assert await writer.promote_due() == 0
    assert await redis.xlen(keys.jobs) == 0


async def test_the_record_of_a_job_cancelled_in_the_queue_stays_until_its_entry_is_gone(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """If the record went first, a coordinator would take the entry for a new job."""
    await submitter.submit(JOB)
    await submitter.cancel(JOB.id, "not needed")
    assert await redis.pttl(keys.record(JOB.id)) == -1
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    await writer.take(JOB.id, delivery)
    assert await redis.pttl(keys.record(JOB.id)) > 0
