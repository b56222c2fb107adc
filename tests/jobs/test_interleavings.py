"""Schedules that once broke a promise of the queue, action by action. ``queue_machine.py`` finds further ones."""

import asyncio
from typing import Any

import pytest

from gsi.errors import InvalidRequestError
from gsi.jobs.check import QueueCheck
from gsi.jobs.connection import Redis
from gsi.jobs.dead_letters import DeadLetters
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import GROUP, MAX_DELAY_MS, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import Delivery, JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter, Lease, LeaseLostError
from tests.jobs.sample import DONE, JOB, look_at, step

OTHER_QUESTION = '{"id":"job-1","prompt":"another question"}'


class Two:
    """A queue with the coordinators a and b, either of which may stall between any two calls."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis: Any = redis
        self.keys = keys
        self.submitter, self.reader = JobSubmitter(redis, keys), JobReader(redis, keys)
        self.writer = JobWriter(redis, keys, Policy(max_attempts=2, max_jobs_per_tenant=1))
        self.dead = DeadLetters(redis, keys)
        self.a, self.b = JobStream(redis, keys, "a"), JobStream(redis, keys, "b")

    async def deliver(self, stream: JobStream) -> Delivery:
        (delivery,) = await stream.take_new(1, 10)
        return delivery

    async def take_over(self, stream: JobStream) -> Delivery:
        (delivery,) = await stream.take_over(1, 0)
        return delivery

    async def take(self, delivery: Delivery, job_id: str = JOB.id) -> Lease:
        lease = await self.writer.take(job_id, delivery)
        assert lease is not None
        return lease

    async def state(self, job_id: str = JOB.id) -> JobState:
        record = await self.reader.record(job_id)
        assert record is not None
        return record.state

    async def problems(self) -> list[str]:
        return [str(each) async for each in QueueCheck(self.redis, self.keys).run()]


@pytest.fixture
async def two(redis: Redis, keys: Keys) -> Two:
    made = Two(redis, keys)
    await made.a.create_group()
    await made.submitter.submit(JOB)
    return made


async def test_a_take_that_stalled_until_the_job_was_put_off_changes_nothing(two: Two) -> None:
    """It once made the job RUNNING, without an entry and for ever."""
    stalled = await two.deliver(two.a)
    lease = await two.take(await two.take_over(two.b))
    assert await two.writer.retry(lease, "full", delay_seconds=0) is JobState.QUEUED
    assert await two.writer.take(JOB.id, stalled) is None
    assert await two.writer.promote_due() == 1
    await two.writer.commit(await two.take(await two.deliver(two.b)), DONE)
    assert await two.problems() == []


async def test_a_commit_of_a_job_that_was_deleted_does_not_end_the_next_job_of_its_id(two: Two) -> None:
    """Tokens are counted for the whole queue: the new job's first writer has another one."""
    stalled = await two.take(await two.deliver(two.a))
    await two.writer.commit(await two.take(await two.take_over(two.b)), DONE)
    assert await two.reader.forget(JOB.id)
    await two.submitter.submit(Job(JOB.id, parse_payload({"prompt": "another question"})))
    lease = await two.take(await two.deliver(two.b))
    with pytest.raises(LeaseLostError):
        await two.writer.commit(stalled, DONE)
    with pytest.raises(LeaseLostError):
        await two.writer.append_step(stalled, step(0))
    await two.writer.commit(lease, JobResult(JobState.SUCCEEDED, answer="another answer"))


async def test_a_writer_whose_job_became_dead_writes_nothing_even_when_the_job_is_revived(two: Two) -> None:
    """One result, one dead letter, and the tenant's count falls once."""
    first = await two.take(await two.deliver(two.a))
    second = await two.take(await two.take_over(two.b))
    assert await two.writer.take(JOB.id, await two.take_over(two.b)) is None
    assert await two.state() is JobState.DEAD
    for lease in (first, second):
        with pytest.raises(LeaseLostError):
            await two.writer.append_step(lease, step(0))
        with pytest.raises(LeaseLostError):
            await two.writer.retry(lease, "late", delay_seconds=0)
    assert await two.redis.xlen(two.keys.results) == await two.redis.xlen(two.keys.dead) == 1
    await two.dead.retry(JOB.id)
    with pytest.raises(LeaseLostError):
        await two.writer.commit(second, DONE)
    assert await two.problems() == []


@pytest.mark.parametrize("payload", ['{"id":"job-2","prompt":"2 + 3"}', OTHER_QUESTION.replace("job-1", "job-2")])
async def test_an_id_that_is_pushed_again_while_it_is_parked_is_parked_once(two: Two, payload: str) -> None:
    """And its tenant's place is free again in the end; at a limit of one it was once blocked for ever."""
    lease = await two.take(await two.deliver(two.a))
    await two.submitter.submit(Job("job-2", JOB.payload))
    assert await two.writer.take("job-2", await two.deliver(two.a)) is None
    await two.redis.xadd(two.keys.jobs, {"job": payload})
    assert await two.writer.take("job-2", await two.deliver(two.b)) is None
    assert await two.redis.llen(two.keys.parked("default")) == 1
    await two.submitter.cancel("job-2", "not needed")
    assert await two.problems() == []
    await two.writer.commit(lease, DONE)
    assert await two.redis.exists(two.keys.tenants, two.keys.parked_tenants, two.keys.parked("default")) == 0


async def test_an_id_that_is_pushed_again_while_it_is_delayed_keeps_its_question(two: Two) -> None:
    """The second payload is dropped, so that no step is kept under a question that it does not answer."""
    lease = await two.take(await two.deliver(two.a))
    await two.writer.append_step(lease, step(0))
    await two.writer.retry(lease, "full", delay_seconds=0)
    await two.redis.xadd(two.keys.jobs, {"job": OTHER_QUESTION})
    assert await two.writer.take(JOB.id, await two.deliver(two.b)) is None
    assert await two.writer.promote_due() == 1
    again = await two.deliver(two.b)
    assert parse_payload(again.payload).prompt == JOB.payload.prompt
    await two.writer.commit(await two.take(again), DONE)


async def test_after_lost_writes_two_takes_with_one_token_are_told_apart(two: Two) -> None:
    """The server counts on from an older token; the nonce of the former take is in no record."""
    delivery = await two.deliver(two.a)
    saved = {key: await two.redis.dump(key) for key in (two.keys.config, two.keys.tenants, two.keys.record(JOB.id))}
    lost = await two.take(delivery)
    for key, written in saved.items():
        await two.redis.delete(key)
        if written is not None:
            await two.redis.restore(key, 0, written)
    lease = await two.take(delivery)
    assert lease.token == lost.token
    await two.writer.append_step(lease, step(0, "of the one that holds the lease\n\n"))
    with pytest.raises(LeaseLostError):
        await two.writer.append_step(lost, step(1, "of the other one\n\n"))
    assert not (await look_at(two.writer, lost)).is_held
    assert (await look_at(two.writer, lease)).is_held


async def test_an_entry_that_cannot_be_taken_becomes_a_dead_letter(two: Two) -> None:
    """A key of the job's name that is no record would fail each take, for ever, before all new jobs."""
    await two.redis.set(two.keys.record("odd"), "no record")
    await two.redis.xadd(two.keys.jobs, {"job": '{"id":"odd","prompt":"hello"}'})
    await two.deliver(two.a)
    assert await two.writer.take("odd", await two.deliver(two.a)) is None
    (letter,) = [letter async for letter in two.dead.letters()]
    assert (letter.job_id, letter.reason, letter.error[:9]) == ("odd", "cannot be taken", "WRONGTYPE")
    assert await two.redis.xlen(two.keys.jobs) == 1


async def test_kills_are_not_held_against_a_job_that_keeps_steps(two: Two) -> None:
    """However many there are. A job that keeps none is dead after its last attempt."""
    stream, other = two.a, two.b
    lease = await two.take(await two.deliver(stream))
    for index in range(6):
        await two.writer.append_step(lease, step(index))
        stream, other = other, stream
        lease = await two.take(await two.take_over(stream))
        assert lease.attempt == index + 2
    await two.take(await two.take_over(other))
    assert await two.writer.take(JOB.id, await two.take_over(stream)) is None
    assert await two.state() is JobState.DEAD


async def test_an_idempotency_key_whose_job_is_deleted_starts_a_new_job(two: Two) -> None:
    """It once led to the id of a job that nobody could wait for."""
    keyed = JOB.payload.model_copy(update={"idempotency_key": "order 66", "tenant": "other"})
    assert await two.submitter.submit(Job("first", keyed)) == "first"
    await two.redis.delete(two.keys.record("first"))
    assert await two.submitter.submit(Job("second", keyed)) == "second"
    assert await two.submitter.submit(Job("third", keyed)) == "second"


async def test_a_job_that_is_deleted_is_not_waited_for(two: Two) -> None:
    """Whoever waits for its end, or follows its steps, learns that the job is gone."""

    async def follow() -> None:
        async for _ in two.reader.follow(JOB.id):
            pass

    waiting, following = asyncio.create_task(two.reader.wait(JOB.id, 30)), asyncio.create_task(follow())
    await asyncio.sleep(0.05)  # both have seen the job
    await two.redis.delete(two.keys.record(JOB.id), two.keys.steps(JOB.id))  # at once: nobody sees an end before
    for task in (waiting, following):
        with pytest.raises(InvalidRequestError, match="job job-1 was deleted, or its lifetime has ended"):
            await task


async def test_a_run_that_fails_after_its_job_was_cancelled_ends_the_job(two: Two) -> None:
    """It is not tried again, and not dead; nor if its coordinator is killed instead."""
    lease = await two.take(await two.deliver(two.a))
    await two.submitter.cancel(JOB.id, "not needed")
    assert await two.writer.retry(lease, "prm: INTERNAL", delay_seconds=0) is JobState.CANCELLED
    await two.submitter.submit(Job("job-2", JOB.payload))
    await two.take(await two.deliver(two.a), "job-2")
    await two.submitter.cancel("job-2", "not needed")
    assert await two.writer.take("job-2", await two.take_over(two.b)) is None
    assert await two.state("job-2") is JobState.CANCELLED
    assert await two.problems() == []


async def test_an_entry_that_was_trimmed_leaves_no_record(two: Two) -> None:
    """A take of nothing writes nothing."""
    await two.redis.xadd(two.keys.jobs, {"job": '{"id":"trimmed","prompt":"hello"}'})
    await two.deliver(two.a)
    delivery = await two.deliver(two.a)
    await two.redis.xdel(two.keys.jobs, delivery.entry_id)
    assert await two.writer.take("trimmed", delivery) is None
    assert await two.reader.record("trimmed") is None
    assert await two.redis.exists(two.keys.record("trimmed")) == 0


async def test_a_step_that_comes_after_the_end_is_not_kept(two: Two) -> None:
    """It would make a key that nothing ever deletes."""
    lease = await two.take(await two.deliver(two.a))
    await two.writer.commit(lease, DONE)
    with pytest.raises(LeaseLostError):
        await two.writer.append_step(lease, step(0))
    assert await two.redis.exists(two.keys.steps(JOB.id)) == 0


async def test_a_coordinator_that_stops_leaves_the_group_unless_it_holds_an_entry(two: Two) -> None:
    """And those that were killed are removed once their entries are taken over."""
    await two.deliver(two.a)
    await two.a.leave()
    assert [each["name"] for each in await two.redis.xinfo_consumers(two.keys.jobs, GROUP)] == [b"a"]
    await two.take_over(two.b)
    await two.b.remove_idle_consumers(0)
    assert [each["name"] for each in await two.redis.xinfo_consumers(two.keys.jobs, GROUP)] == [b"b"]


async def test_a_cancelled_job_that_is_forgotten_before_it_is_delivered_does_not_run(two: Two) -> None:
    """What drops its entry stays until the entry comes, and no longer."""
    await two.submitter.cancel(JOB.id, "not needed")
    assert await two.reader.forget(JOB.id)
    assert await two.writer.take(JOB.id, await two.deliver(two.a)) is None
    assert 0 <= await two.redis.pttl(two.keys.record(JOB.id)) <= 1 or not await two.reader.exists(JOB.id)


async def test_a_delay_that_was_begun_before_the_server_s_clock_was_set_back_ends_now(two: Two) -> None:
    """No delay is longer than five minutes, so a job that is due in an hour was put off by another clock."""
    await two.writer.retry(await two.take(await two.deliver(two.a)), "full", delay_seconds=60)
    assert await two.writer.promote_due() == 0
    await two.redis.zincrby(two.keys.delayed, MAX_DELAY_MS, JOB.id)
    assert await two.writer.promote_due() == 1


async def test_an_error_is_stored_in_two_kilobytes(two: Two) -> None:
    """However long a service's answer was."""
    await two.writer.retry(await two.take(await two.deliver(two.a)), "x" * 100_000, delay_seconds=0)
    record = await two.reader.record(JOB.id)
    assert record is not None
    assert len(record.fields["last_error"].encode()) <= 2048
