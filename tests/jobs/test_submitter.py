"""The submitter's side: a job is pushed once, refused if the queue is full, and cancelled in every state."""

import json
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gsi.errors import RetryableError
from gsi.jobs import connection
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job
from gsi.jobs.keys import Keys, Priority
from gsi.jobs.reader import JobReader, QueueConfig
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submission import MAX_TOGETHER, MAX_TOGETHER_CHARACTERS, Submission, in_groups
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter
from tests.jobs.sample import DONE, JOB, look_at, of_priority, renew, take


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
    assert (await look_at(writer, lease)).cancel_reason == "too dear"
    assert (await renew(writer, lease)).cancel_reason == "too dear"
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


def submissions(count: int, **changes: Any) -> list[Submission]:
    payload = JOB.payload.model_copy(update=changes)
    return [Submission.of(Job(f"job-{number:04}", payload)) for number in range(count)]


async def test_many_jobs_are_pushed_in_order_and_hundreds_in_a_round_trip(
    redis: Redis, keys: Keys, submitter: JobSubmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets what a job that is submitted alone gets; to submit them again pushes nothing."""
    sent = 0
    send = connection._PlainConnection.send_packed_command

    async def count(self: Any, *given: Any, **named: Any) -> None:
        nonlocal sent
        sent += 1
        await send(self, *given, **named)

    await submitter.submit(JOB)  # the server knows the script now
    alone = await redis.hgetall(keys.record(JOB.id))
    monkeypatch.setattr(connection._PlainConnection, "send_packed_command", count)
    jobs = submissions(2 * MAX_TOGETHER + 1)
    ids = [job.job_id for job in jobs]
    assert [job_id async for job_id in submitter.submit_many(jobs)] == ids
    assert sent == 3
    entries: Any = await redis.xrange(keys.jobs)
    assert [json.loads(fields[b"job"])["id"] for _, fields in entries] == [JOB.id, *ids]
    last = await redis.hgetall(keys.record(ids[-1]))
    assert last.keys() == alone.keys()
    assert last[b"entry_id"] == entries[-1][0]
    assert [job_id async for job_id in submitter.submit_many(jobs)] == ids
    assert await redis.xlen(keys.jobs) == len(ids) + 1


async def test_many_jobs_go_to_their_lanes_and_keys(
    redis: Redis, keys: Keys, submitter: JobSubmitter, reader: JobReader
) -> None:
    """A second job of a key is the first one, also within a round trip; each priority has its lane."""
    keyed = submissions(3, idempotency_key="order 66")
    others = [Submission.of(of_priority(priority, priority)) for priority in Priority]
    pushed = [job_id async for job_id in submitter.submit_many([*keyed, *others])]
    assert pushed == ["job-0000"] * 3 + list(Priority)
    assert [await redis.xlen(keys.lane(priority)) for priority in Priority] == [1, 2, 1]
    assert await reader.record("job-0001") is None


async def test_of_many_jobs_those_before_a_full_queue_are_pushed_and_no_other(
    redis: Redis, keys: Keys, submitter: JobSubmitter, reader: JobReader
) -> None:
    """Whoever submits knows the ids of exactly those."""
    await redis.hset(keys.config, "max_jobs", "3")
    pushed: list[str] = []

    async def push() -> None:
        async for job_id in submitter.submit_many(submissions(10)):
            pushed.append(job_id)  # noqa: PERF401 (those before the error are wanted)

    with pytest.raises(RetryableError, match="is full: 3 jobs"):
        await push()
    assert pushed == ["job-0000", "job-0001", "job-0002"]
    assert await redis.xlen(keys.jobs) == 3
    assert not await reader.exists("job-0003")


async def test_of_many_jobs_those_before_a_spoilt_record_are_known(
    redis: Redis, keys: Keys, submitter: JobSubmitter
) -> None:
    """A key that is no record stops the submission at its job."""
    await redis.set(keys.record("job-0002"), "no record")
    pushed: list[str] = []

    async def push() -> None:
        async for job_id in submitter.submit_many(submissions(5)):
            pushed.append(job_id)  # noqa: PERF401 (as above)

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await push()
    assert pushed == ["job-0000", "job-0001"]
    assert await redis.xlen(keys.jobs) == 2


def test_jobs_are_grouped_by_number_and_by_size() -> None:
    """A script is given a bounded number of bytes beside its last job; jobs are read as they are grouped."""
    small = submissions(MAX_TOGETHER + 1)
    large = replace(small[0], payload="x" * (MAX_TOGETHER_CHARACTERS - 1))
    groups = [len(group) for group in in_groups([*small, large, *small[:3], large, large])]
    assert groups == [MAX_TOGETHER, 2, 4, 1]
    read: list[Submission] = []
    next(in_groups(job for job in submissions(10 * MAX_TOGETHER) if read.append(job) is None))  # type: ignore[func-returns-value]
    assert len(read) == MAX_TOGETHER


def test_a_submission_survives_its_line() -> None:
    """Whatever text a user writes: a line ends where its job ends."""
    job = submissions(1, prompt='two\nlines "quoted" \u2028 ü', idempotency_key="k", priority=Priority.LOW)[0]
    assert job.to_line().count(b"\n") == 1
    assert Submission.from_line(job.to_line()) == job
