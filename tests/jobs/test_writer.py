"""The writer's side: a job is taken once, written by one coordinator, tried a few times, and finished once."""

import json
from typing import Any

import pytest

from gsi.jobs.connection import Redis
from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter, LeaseLostError
from tests.conftest import wait_until
from tests.jobs.sample import DONE, JOB, renew, step, take, take_over


async def test_a_job_pushed_by_bare_xadd_gets_its_record_when_it_is_taken(
    redis: Redis, keys: Keys, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """Any language can push a job with one command; the entry's id is the job's id."""
    entry: Any = await redis.xadd(keys.jobs, {"job": '{"prompt":"hello"}'})
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert await writer.take(entry.decode(), delivery)
    record = await reader.record(entry.decode())
    assert record is not None
    assert record.state is JobState.RUNNING
    assert record.to_dict()["submitted_at"] == int(entry.split(b"-")[0]) / 1000


async def test_the_same_id_in_two_entries_runs_once(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """The second entry is acknowledged and deleted; the first entry stands for the job."""
    await submitter.submit(JOB)
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"again"}'})
    first, second = await stream.take_new(count=2, block_ms=100)
    assert await writer.take(JOB.id, first)
    assert await writer.take(JOB.id, second) is None
    assert (await stream.backlog()).pending == 1


async def test_steps_are_kept_in_order_and_counted(
    submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """The step stream is the checkpoint: step k is its k-th entry."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    for index in range(3):
        await writer.append_step(lease, step(index))
    assert [record.index for record in await reader.steps(JOB.id)] == [0, 1, 2]


async def test_a_step_that_was_sent_twice_is_kept_once(
    submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """If a connection breaks before the answer arrives, the client sends the step again."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.append_step(lease, step(0))
    await writer.append_step(lease, step(0))
    assert len(await reader.steps(JOB.id)) == 1


async def test_a_step_that_does_not_follow_is_refused(
    submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """A gap would be a bug of ours; it must not be written."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    with pytest.raises(Exception, match="step 1 does not follow the 0 kept steps"):
        await writer.append_step(lease, step(1))


async def test_a_worker_that_was_replaced_writes_nothing(
    submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream, other_stream: JobStream
) -> None:
    """The fencing token: only the coordinator that took the job last may write it."""
    await submitter.submit(JOB)
    old = await take(writer, stream)
    await writer.append_step(old, step(0))
    new = await take_over(writer, other_stream)
    assert new is not None
    with pytest.raises(LeaseLostError):
        await writer.append_step(old, step(1, "from the past\n\n"))
    with pytest.raises(LeaseLostError):
        await writer.commit(old, DONE)
    await writer.append_step(new, step(1))
    assert [record.text for record in await reader.steps(JOB.id)] == ["a step\n\n"] * 2


async def test_a_worker_that_was_replaced_cannot_steal_the_job_back(
    submitter: JobSubmitter, writer: JobWriter, stream: JobStream, other_stream: JobStream
) -> None:
    """Renewing or handing back a lost lease changes nothing."""
    await submitter.submit(JOB)
    old = await take(writer, stream)
    new = await take_over(writer, other_stream)
    assert new is not None
    assert not (await renew(writer, old)).is_held
    assert not await writer.hand_back(old, lease_ms=60_000)
    assert (await renew(writer, new)).is_held


async def test_a_renewed_lease_is_not_abandoned(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """Renewing sets the idle time to zero and leaves the delivery count as it is."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    for _ in range(3):
        assert (await renew(writer, lease)).is_held
    answer: Any = await redis.xpending_range(keys.jobs, GROUP, "-", "+", 1)
    assert answer[0]["times_delivered"] == 1
    assert await stream.take_over(count=1, min_idle_ms=60_000) == []


async def test_a_lease_that_ended_by_its_own_commit_was_not_lost(
    submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """A renewal may come between the commit and its answer; it must not cancel the run."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.commit(lease, DONE)
    assert (await renew(writer, lease)).is_held


async def test_a_job_handed_back_is_taken_over_at_once(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream, other_stream: JobStream
) -> None:
    """The jobs of a coordinator that stops need not wait for their leases to end."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    assert await writer.hand_back(lease, lease_ms=60_000)
    (delivery,) = await other_stream.take_over(count=1, min_idle_ms=60_000)
    pending: Any = await redis.xpending_range(keys.jobs, GROUP, "-", "+", 1)
    assert (pending[0]["message_id"], pending[0]["times_delivered"]) == (delivery.entry_id.encode(), 2)


async def test_a_commit_ends_announces_acknowledges_and_frees(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """One script does it all: there is no moment at which a job has a result and is still to be run."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.commit(lease, DONE)
    record = await reader.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["answer"]) == (JobState.SUCCEEDED, "5")
    results: Any = await redis.xrange(keys.results)
    assert [fields for _, fields in results] == [{b"id": b"job-1", b"state": b"SUCCEEDED"}]
    assert (await stream.backlog()).pending == 0
    assert await redis.xlen(keys.jobs) == 0


async def test_a_commit_that_was_sent_twice_counts_once(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """If the connection breaks after the commit, the client commits again; there is still one result."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.commit(lease, DONE)
    await writer.commit(lease, DONE)
    assert await redis.xlen(keys.results) == 1


async def test_a_finished_job_that_is_delivered_again_is_not_run_again(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """Delivery is at least once; the result is exactly once."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.commit(lease, DONE)
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"2 + 3"}'})
    (again,) = await stream.take_new(count=1, block_ms=100)
    assert await writer.take(JOB.id, again) is None
    assert (await stream.backlog()).pending == 0


async def test_a_job_that_is_put_off_is_pushed_again_when_its_delay_is_over(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, reader: JobReader, stream: JobStream
) -> None:
    """Until then it is QUEUED and holds no slot; its kept steps stay."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.append_step(lease, step(0))
    assert await writer.retry(lease, "target: UNAVAILABLE", delay_seconds=2) is JobState.QUEUED
    assert await writer.promote_due() == 0
    assert (await stream.backlog()).pending == await redis.xlen(keys.jobs) == 0

    async def is_promoted() -> bool:
        return await writer.promote_due() == 1

    await wait_until(is_promoted, "the delay is over")
    assert await writer.promote_due() == 0
    again = await take(writer, stream)
    assert (again.attempt, again.token > lease.token) == (2, True)
    assert len(await reader.steps(JOB.id)) == 1


async def test_a_job_pushed_by_bare_xadd_can_be_put_off_too(
    redis: Redis, keys: Keys, writer: JobWriter, stream: JobStream
) -> None:
    """Its payload is kept when it is taken, because the entry is freed."""
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"hello"}'})
    lease = await take(writer, stream)
    await writer.retry(lease, "full", delay_seconds=0)
    assert await writer.promote_due() == 1
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert json.loads(delivery.payload) == {"id": "job-1", "prompt": "hello"}


async def test_a_job_whose_payload_does_not_name_it_keeps_its_id_when_it_is_pushed_again(
    redis: Redis, keys: Keys, writer: JobWriter, stream: JobStream
) -> None:
    """Its id is the id of its first entry, however often it is tried."""
    entry: Any = await redis.xadd(keys.jobs, {"job": '{"prompt":"hello"}'})
    job_id = entry.decode()
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert delivery.job_id is None
    lease = await writer.take(job_id, delivery)
    assert lease is not None
    await writer.retry(lease, "full", delay_seconds=0)
    await writer.promote_due()
    (again,) = await stream.take_new(count=1, block_ms=100)
    assert again.job_id == job_id
    lease = await writer.take(job_id, again)
    assert lease is not None
    assert lease.attempt == 2


async def test_a_job_that_fails_too_often_is_dead_with_its_last_error(
    redis: Redis, keys: Keys, submitter: JobSubmitter, reader: JobReader, stream: JobStream
) -> None:
    """Its end is announced like any other, and the dead letters say why."""
    writer = JobWriter(redis, keys, Policy(max_attempts=2))
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    assert await writer.retry(lease, "first", delay_seconds=0) is JobState.QUEUED
    await writer.promote_due()
    lease = await take(writer, stream)
    assert await writer.retry(lease, "second", delay_seconds=0) is JobState.DEAD
    record = await reader.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["error"]) == (JobState.DEAD, "tried 2 times: second")
    dead: Any = await redis.xrange(keys.dead)
    assert [fields for _, fields in dead] == [{b"id": b"job-1", b"reason": b"tried 2 times", b"error": b"second"}]
    results: Any = await redis.xrange(keys.results)
    assert [fields for _, fields in results] == [{b"id": b"job-1", b"state": b"DEAD"}]
    assert await redis.xlen(keys.jobs) == await redis.zcard(keys.delayed) == 0


async def test_a_job_whose_coordinators_are_lost_again_and_again_is_dead(
    redis: Redis, keys: Keys, submitter: JobSubmitter, reader: JobReader, stream: JobStream, other_stream: JobStream
) -> None:
    """Perhaps the job itself ends them. It is not run more often than the limit allows."""
    writer = JobWriter(redis, keys, Policy(max_attempts=3))
    await submitter.submit(JOB)
    await take(writer, stream)
    assert await take_over(writer, other_stream)
    assert await take_over(writer, stream)
    assert await take_over(writer, other_stream) is None
    record = await reader.record(JOB.id)
    assert record is not None
    assert record.state is JobState.DEAD
    assert record.fields["error"] == "taken 3 times: its coordinator was lost each time"
    assert (await stream.backlog()).pending == 0


async def test_a_job_that_was_handed_back_has_not_used_an_attempt(
    redis: Redis, keys: Keys, submitter: JobSubmitter, stream: JobStream, other_stream: JobStream
) -> None:
    """This holds however often coordinators are told to stop."""
    writer = JobWriter(redis, keys, Policy(max_attempts=2))
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    for other in (other_stream, stream) * 3:
        assert lease.attempt == 1
        assert await writer.hand_back(lease, lease_ms=60_000)
        (delivery,) = await other.take_over(count=1, min_idle_ms=60_000)
        taken = await writer.take(JOB.id, delivery)
        assert taken is not None
        assert taken.token == lease.token + 1
        lease = taken


async def test_what_a_finished_job_leaves_expires(
    redis: Redis, keys: Keys, submitter: JobSubmitter, writer: JobWriter, stream: JobStream
) -> None:
    """Record and steps expire together, after the job's own lifetime or the queue's."""
    await submitter.submit(JOB)
    lease = await take(writer, stream)
    await writer.append_step(lease, step(0))
    assert await redis.pttl(keys.record(JOB.id)) == -1
    await writer.commit(lease, JobResult(JobState.SUCCEEDED, lifetime_seconds=50))
    for key in (keys.record(JOB.id), keys.steps(JOB.id)):
        assert 40_000 < await redis.pttl(key) <= 50_000
