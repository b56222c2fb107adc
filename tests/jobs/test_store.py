"""Jobs in a real Redis-protocol server: taken once, written by one, finished once."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from gsi.algorithm.candidates import FinishReason, Outcome, Source, Step
from gsi.errors import RetryableError
from gsi.jobs.connection import MAX_CONNECTIONS, Redis, connect, durability_warnings
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import GROUP, Keys, Priority
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.store import JobResult, JobStore, Lease, LeaseLostError, Policy, QueueConfig
from gsi.jobs.stream import Delivery, JobStream
from gsi.local.embedded_redis import embedded_redis

JOB = Job("job-1", parse_payload({"prompt": "2 + 3", "params": {"n": 2}}))
DONE = JobResult(JobState.SUCCEEDED, stop_reason="eos", text="5", answer="5", params="{}")


def step(index: int, text: str = "a step\n\n") -> StepRecord:
    kept = Step(index, (1, 2), text, Source.DRAFT, Outcome.ACCEPTED, FinishReason.DELIMITER, 0.5, 0.5)
    return StepRecord.from_step(kept, draft_tokens=4, target_tokens=0, seconds=0.01)


@pytest.fixture
def keys(queue: str) -> Keys:
    return Keys(queue)


@pytest.fixture
def store(redis: Redis, keys: Keys) -> JobStore:
    return JobStore(redis, keys)


@pytest.fixture
async def stream(redis: Redis, keys: Keys) -> JobStream:
    stream = JobStream(redis, keys, "worker-1")
    await stream.create_group()
    return stream


@pytest.fixture
async def other_stream(redis: Redis, keys: Keys) -> JobStream:
    return JobStream(redis, keys, "worker-2")


async def take(store: JobStore, stream: JobStream) -> tuple[Lease, Delivery]:
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    lease = await store.take(JOB.id, delivery, stream.consumer)
    assert lease is not None
    return lease, delivery


async def take_over(store: JobStore, stream: JobStream) -> Lease | None:
    (delivery,) = await stream.take_over(count=1, min_idle_ms=0)
    return await store.take(JOB.id, delivery, stream.consumer)


async def test_a_submitted_job_can_be_asked_for_while_it_is_queued(store: JobStore, stream: JobStream) -> None:
    """The SDK writes the record, so nobody has to guess whether the job arrived."""
    assert not await store.exists(JOB.id)
    assert (await store.submit(JOB)).is_new
    record = await store.record(JOB.id)
    assert record is not None
    assert record.state is JobState.QUEUED
    assert await store.exists(JOB.id)


async def test_submitting_an_id_twice_pushes_it_once(store: JobStore, stream: JobStream) -> None:
    """A client that retries a submission cannot start a second run."""
    assert (await store.submit(JOB)).is_new
    assert not (await store.submit(JOB)).is_new
    assert len(await stream.take_new(count=10, block_ms=50)) == 1


async def test_jobs_pushed_before_the_first_coordinator_are_read(redis: Redis, keys: Keys) -> None:
    """The group starts at 0: what was pushed earlier is not skipped."""
    await redis.xadd(keys.jobs, {"job": '{"prompt":"early"}'})
    stream = JobStream(redis, keys, "late")
    await stream.create_group()
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert json.loads(delivery.payload) == {"prompt": "early"}


async def test_a_job_pushed_by_bare_xadd_gets_its_record_when_it_is_taken(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Any language can push a job with one command; the entry's id is the job's."""
    entry: Any = await redis.xadd(keys.jobs, {"job": '{"prompt":"hello"}'})
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert await store.take(entry.decode(), delivery, stream.consumer)
    record = await store.record(entry.decode())
    assert record is not None
    assert record.state is JobState.RUNNING
    assert record.to_dict()["submitted_at"] == int(entry.split(b"-")[0]) / 1000


async def test_the_same_id_in_two_entries_runs_once(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """A duplicate is acknowledged and forgotten; the first entry carries the job."""
    await store.submit(JOB)
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"again"}'})
    first, second = await stream.take_new(count=2, block_ms=100)
    assert await store.take(JOB.id, first, stream.consumer)
    assert await store.take(JOB.id, second, stream.consumer) is None
    assert (await stream.backlog()).pending == 1


async def test_steps_are_kept_in_order_and_counted(store: JobStore, stream: JobStream) -> None:
    """The step stream is the checkpoint: step k is its k-th entry."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    for index in range(3):
        await store.append_step(lease, step(index))
    assert [record.index for record in await store.steps(JOB.id)] == [0, 1, 2]


async def test_a_step_that_was_sent_twice_is_kept_once(store: JobStore, stream: JobStream) -> None:
    """A connection that breaks after the server has worked makes the client send again."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.append_step(lease, step(0))
    await store.append_step(lease, step(0))
    assert len(await store.steps(JOB.id)) == 1


async def test_a_step_that_does_not_follow_is_refused(store: JobStore, stream: JobStream) -> None:
    """A gap would be a bug of ours, and must not be written."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    with pytest.raises(Exception, match="step 1 does not follow the 0 kept steps"):
        await store.append_step(lease, step(1))


async def test_a_worker_that_was_replaced_writes_nothing(
    store: JobStore, stream: JobStream, other_stream: JobStream
) -> None:
    """The fencing token: whoever took the job last may write it, nobody else."""
    await store.submit(JOB)
    old, _ = await take(store, stream)
    await store.append_step(old, step(0))
    new = await take_over(store, other_stream)
    assert new is not None
    with pytest.raises(LeaseLostError):
        await store.append_step(old, step(1, "from the past\n\n"))
    with pytest.raises(LeaseLostError):
        await store.commit(old, DONE)
    await store.append_step(new, step(1))
    assert [record.text for record in await store.steps(JOB.id)] == ["a step\n\n"] * 2


async def test_a_worker_that_was_replaced_cannot_steal_the_job_back(
    store: JobStore, stream: JobStream, other_stream: JobStream
) -> None:
    """Renewing or handing back a lost lease changes nothing."""
    await store.submit(JOB)
    old, _ = await take(store, stream)
    new = await take_over(store, other_stream)
    assert new is not None
    assert not (await store.renew(old, stream.consumer)).is_held
    assert not await store.hand_back(old, stream.consumer, lease_ms=60_000)
    assert (await store.renew(new, other_stream.consumer)).is_held


async def test_a_renewed_lease_is_not_abandoned(redis: Redis, store: JobStore, stream: JobStream, keys: Keys) -> None:
    """Renewing sets the idle time to zero and leaves the delivery count as it is."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    for _ in range(3):
        assert (await store.renew(lease, stream.consumer)).is_held
    answer: Any = await redis.xpending_range(keys.jobs, GROUP, "-", "+", 1)
    assert answer[0]["times_delivered"] == 1
    assert await stream.take_over(count=1, min_idle_ms=60_000) == []


async def test_a_lease_that_ended_by_its_own_commit_was_not_lost(store: JobStore, stream: JobStream) -> None:
    """Renewing may come between the commit and its answer: the run must not be cancelled for that."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.commit(lease, DONE)
    assert (await store.renew(lease, stream.consumer)).is_held


async def test_a_job_handed_back_is_taken_over_at_once(
    store: JobStore, stream: JobStream, other_stream: JobStream
) -> None:
    """A coordinator that stops does not make its jobs wait for their leases."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    assert await store.hand_back(lease, stream.consumer, lease_ms=60_000)
    (delivery,) = await other_stream.take_over(count=1, min_idle_ms=60_000)
    assert delivery.is_redelivery


async def test_a_commit_ends_announces_acknowledges_and_frees(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """One script does it all: there is no moment at which a result exists and the job is still to be run."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.commit(lease, DONE)
    record = await store.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["answer"]) == (JobState.SUCCEEDED, "5")
    results: Any = await redis.xrange(keys.results)
    assert [fields for _, fields in results] == [{b"id": b"job-1", b"state": b"SUCCEEDED"}]
    assert (await stream.backlog()).pending == 0
    assert await redis.xlen(keys.jobs) == 0


async def test_a_commit_that_was_sent_twice_counts_once(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """A connection that breaks after the commit does not make a second result."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.commit(lease, DONE)
    await store.commit(lease, DONE)
    assert await redis.xlen(keys.results) == 1


async def test_a_finished_job_that_is_delivered_again_is_not_run_again(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Delivery is at least once; the result is exactly once."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.commit(lease, DONE)
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"2 + 3"}'})
    (again,) = await stream.take_new(count=1, block_ms=100)
    assert await store.take(JOB.id, again, stream.consumer) is None
    assert (await stream.backlog()).pending == 0


async def test_the_lag_stays_known_when_finished_entries_are_freed(store: JobStore, stream: JobStream) -> None:
    """Autoscalers read the lag; deleting undelivered entries would make it nil, deleting finished ones does not."""
    await store.submit(JOB)
    await store.submit(Job("job-2", JOB.payload))
    lease, _ = await take(store, stream)
    await store.commit(lease, DONE)
    assert (await stream.backlog()).lag == 1


async def test_a_follower_sees_every_step_and_then_the_end(store: JobStore, stream: JobStream) -> None:
    """Those kept before it came, and those kept while it watches."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.append_step(lease, step(0, "first\n\n"))
    seen = []
    async for record in store.follow(JOB.id):
        seen.append(record.text)
        if len(seen) == 1:
            await store.append_step(lease, step(1, "second\n\n"))
            await store.commit(lease, DONE)
    assert seen == ["first\n\n", "second\n\n"]


async def test_more_jobs_than_connections_can_be_waited_for(store: JobStore, stream: JobStream) -> None:
    """Waiting holds no connection, so hundreds wait at once and the worker beside them is not held up."""
    jobs = [Job(f"many-{number}", JOB.payload) for number in range(MAX_CONNECTIONS + 20)]
    for job in jobs:
        await store.submit(job)

    async def finish_all() -> None:
        for delivery in await stream.take_new(count=len(jobs), block_ms=100):
            lease = await store.take(json.loads(delivery.payload)["id"], delivery, stream.consumer)
            assert lease is not None
            await store.commit(lease, DONE)

    *records, _ = await asyncio.gather(*(store.wait(job.id, 30) for job in jobs), finish_all())
    assert {record.state for record in records if record} == {JobState.SUCCEEDED}


async def test_a_server_that_came_back_empty_gets_its_group_again(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """The coordinator goes on by itself when the server has lost everything."""
    await redis.delete(keys.jobs)
    assert await stream.take_new(count=1, block_ms=10) == []
    await store.submit(JOB)
    assert len(await stream.take_new(count=1, block_ms=100)) == 1


async def test_the_embedded_server_loses_nothing_by_its_configuration(redis: Redis) -> None:
    """It writes an append-only file and evicts nothing."""
    assert await durability_warnings(redis) == []


async def test_a_server_that_may_lose_jobs_is_named() -> None:
    """The warning says which setting, and what it can cost."""
    with embedded_redis() as url:
        redis = connect(url)
        await redis.config_set("appendonly", "no")
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        warnings = await durability_warnings(redis)
        await redis.aclose()
    assert [warning.split(":")[0] for warning in warnings] == ["appendonly is off", "maxmemory-policy is allkeys-lru"]


# --- Attempts, retries, dead letters ---------------------------------------------------------------------------------


async def test_a_job_that_is_put_off_is_pushed_again_when_its_delay_is_over(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Meanwhile it is queued and holds no slot; its kept steps stay."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.append_step(lease, step(0))
    assert await store.retry(lease, "target: UNAVAILABLE", delay_seconds=0.2) is JobState.QUEUED
    assert await store.promote_due() == 0
    assert (await stream.backlog()).pending == await redis.xlen(keys.jobs) == 0
    await asyncio.sleep(0.25)
    assert await store.promote_due() == 1
    assert await store.promote_due() == 0
    again, _ = await take(store, stream)
    assert (again.attempt, again.token) == (2, 2)
    assert len(await store.steps(JOB.id)) == 1


async def test_a_job_pushed_by_bare_xadd_can_be_put_off_too(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Its payload is kept when it is taken, because the entry is freed."""
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"hello"}'})
    lease, _ = await take(store, stream)
    await store.retry(lease, "full", delay_seconds=0)
    assert await store.promote_due() == 1
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert json.loads(delivery.payload) == {"id": "job-1", "prompt": "hello"}


async def test_a_job_whose_payload_does_not_name_it_keeps_its_id_when_it_is_pushed_again(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Its id is that of its first entry, however often it is tried."""
    entry: Any = await redis.xadd(keys.jobs, {"job": '{"prompt":"hello"}'})
    job_id = entry.decode()
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert delivery.job_id is None
    lease = await store.take(job_id, delivery, stream.consumer)
    assert lease is not None
    await store.retry(lease, "full", delay_seconds=0)
    await store.promote_due()
    (again,) = await stream.take_new(count=1, block_ms=100)
    assert again.job_id == job_id
    lease = await store.take(job_id, again, stream.consumer)
    assert lease is not None
    assert lease.attempt == 2


async def test_a_job_that_fails_too_often_is_dead_with_its_last_error(
    redis: Redis, keys: Keys, stream: JobStream
) -> None:
    """It is announced as any end is, and the dead letters say why."""
    store = JobStore(redis, keys, Policy(max_attempts=2))
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    assert await store.retry(lease, "first", delay_seconds=0) is JobState.QUEUED
    await store.promote_due()
    lease, _ = await take(store, stream)
    assert await store.retry(lease, "second", delay_seconds=0) is JobState.DEAD
    record = await store.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["error"]) == (JobState.DEAD, "tried 2 times: second")
    dead: Any = await redis.xrange(keys.dead)
    assert [fields for _, fields in dead] == [{b"id": b"job-1", b"reason": b"tried 2 times", b"error": b"second"}]
    results: Any = await redis.xrange(keys.results)
    assert [fields for _, fields in results] == [{b"id": b"job-1", b"state": b"DEAD"}]
    assert await redis.xlen(keys.jobs) == await redis.zcard(keys.delayed) == 0


async def test_a_job_whose_coordinators_are_lost_again_and_again_is_dead(
    redis: Redis, keys: Keys, stream: JobStream, other_stream: JobStream
) -> None:
    """Perhaps it is the job that ends them. It is not run once more than the limit says."""
    store = JobStore(redis, keys, Policy(max_attempts=3))
    await store.submit(JOB)
    await take(store, stream)
    assert await take_over(store, other_stream)
    assert await take_over(store, stream)
    assert await take_over(store, other_stream) is None
    record = await store.record(JOB.id)
    assert record is not None
    assert record.state is JobState.DEAD
    assert record.fields["error"] == "taken 3 times: its coordinator was lost each time"
    assert (await stream.backlog()).pending == 0


async def test_a_job_that_was_handed_back_has_not_used_an_attempt(
    redis: Redis, keys: Keys, stream: JobStream, other_stream: JobStream
) -> None:
    """However often coordinators are stopped in good order."""
    store = JobStore(redis, keys, Policy(max_attempts=2))
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    for holder, other in [(stream, other_stream), (other_stream, stream)] * 3:
        assert lease.attempt == 1
        assert await store.hand_back(lease, holder.consumer, lease_ms=60_000)
        (delivery,) = await other.take_over(count=1, min_idle_ms=60_000)
        taken = await store.take(JOB.id, delivery, other.consumer)
        assert taken is not None
        assert taken.token == lease.token + 1
        lease = taken


# --- Cancelling ------------------------------------------------------------------------------------------------------


async def test_a_queued_job_is_cancelled_at_once_and_never_run(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Its entry stays until it is delivered: deleting it before would make the group's lag unknown."""
    await store.submit(JOB)
    assert await store.cancel(JOB.id, "not needed") is JobState.QUEUED
    record = await store.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["error"]) == (JobState.CANCELLED, "not needed")
    assert (await stream.backlog()).lag == 1
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert await store.take(JOB.id, delivery, stream.consumer) is None
    assert await redis.xlen(keys.jobs) == 0
    assert (await stream.backlog()).lag == 0


async def test_a_job_that_nobody_has_seen_yet_can_be_cancelled(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Pushed by a bare XADD it has no record: a mark is left, and it is dropped when it comes."""
    await redis.xadd(keys.jobs, {"job": '{"id":"job-1","prompt":"hello"}'})
    assert await store.cancel(JOB.id, "not needed") is None
    assert await store.cancel(JOB.id, "not needed", may_be_unseen=True) is JobState.QUEUED
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    assert await store.take(JOB.id, delivery, stream.consumer) is None
    record = await store.record(JOB.id)
    assert record is not None
    assert (record.state, record.fields["error"]) == (JobState.CANCELLED, "not needed")
    assert await redis.pttl(keys.record(JOB.id)) > 0
    assert (await stream.backlog()).pending == 0


async def test_a_running_job_is_asked_to_stop_and_its_run_learns_why(store: JobStore, stream: JobStream) -> None:
    """The first reason stands; a job that has finished is left as it is."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    assert await store.cancel(JOB.id, "too dear") is JobState.RUNNING
    assert await store.cancel(JOB.id, "again") is JobState.RUNNING
    assert (await store.look_at(lease)).cancel_reason == "too dear"
    assert (await store.renew(lease, stream.consumer)).cancel_reason == "too dear"
    await store.commit(lease, JobResult(JobState.CANCELLED, error="too dear"))
    assert await store.cancel(JOB.id, "late") is JobState.CANCELLED
    assert await store.cancel("nobody", "?") is None


async def test_a_job_that_waits_for_its_next_attempt_is_cancelled_at_once(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """And is not pushed when its delay is over."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.retry(lease, "full", delay_seconds=0)
    assert await store.cancel(JOB.id, "enough") is JobState.QUEUED
    assert await store.promote_due() == 0
    assert await redis.xlen(keys.jobs) == 0


# --- Memory ----------------------------------------------------------------------------------------------------------


async def test_what_a_finished_job_leaves_expires(redis: Redis, keys: Keys, store: JobStore, stream: JobStream) -> None:
    """Record and steps together, after the job's own time or the queue's."""
    await store.submit(JOB)
    lease, _ = await take(store, stream)
    await store.append_step(lease, step(0))
    assert await redis.pttl(keys.record(JOB.id)) == -1
    await store.commit(lease, JobResult(JobState.SUCCEEDED, lifetime_seconds=50))
    for key in (keys.record(JOB.id), keys.steps(JOB.id)):
        assert 40_000 < await redis.pttl(key) <= 50_000


async def test_the_record_of_a_job_cancelled_in_the_queue_stays_until_its_entry_is_gone(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Were it gone first, the entry would be taken for a new job."""
    await store.submit(JOB)
    await store.cancel(JOB.id, "not needed")
    assert await redis.pttl(keys.record(JOB.id)) == -1
    (delivery,) = await stream.take_new(count=1, block_ms=100)
    await store.take(JOB.id, delivery, stream.consumer)
    assert await redis.pttl(keys.record(JOB.id)) > 0


async def test_cancellation_reaches_a_task_that_talks_to_redis_all_the_time(redis: Redis) -> None:
    """redis-py's own way of sending may lose one in Python 3.11; ours does not."""

    async def ask() -> None:
        async with asyncio.timeout(0.05):
            while True:
                await redis.hmget("nothing", "a", "b")

    for _ in range(20):
        with pytest.raises(TimeoutError):
            await ask()


# --- Lanes, limits, idempotency ---------------------------------------------------------------------------------------


def of_priority(job_id: str, priority: Priority) -> Job:
    return Job(job_id, JOB.payload.model_copy(update={"priority": priority}))


async def test_high_goes_before_normal_before_low_and_none_starves(store: JobStore, stream: JobStream) -> None:
    """Of ten slots six, three and one, while each lane has jobs; what one does not use goes to the others."""
    for number in range(20):
        for priority in Priority:
            await store.submit(of_priority(f"{priority}-{number}", priority))
    taken = [json.loads(delivery.payload)["id"] for _ in range(10) for delivery in await stream.take_new(1, 50)]
    assert Counter(job_id.split("-")[0] for job_id in taken) == {"high": 6, "normal": 3, "low": 1}
    assert [job_id for job_id in taken if job_id.startswith("high")] == [f"high-{number}" for number in range(6)]
    assert len(await stream.take_new(50, 50)) == 50
    assert await stream.take_new(1, 10) == []


@pytest.mark.parametrize("priority", Priority)
async def test_a_lane_alone_gets_every_slot(store: JobStore, stream: JobStream, priority: Priority) -> None:
    """Its share is a floor, not a ceiling; its jobs run, are put off and end as any other."""
    for number in range(12):
        await store.submit(of_priority(f"job-{number}", priority))
    deliveries = await stream.take_new(12, 50)
    assert [json.loads(delivery.payload)["id"] for delivery in deliveries] == [f"job-{number}" for number in range(12)]
    lease = await store.take("job-0", deliveries[0], stream.consumer)
    assert lease is not None
    await store.retry(lease, "full", delay_seconds=0)
    await store.promote_due()
    (again,) = await stream.take_new(1, 50)
    assert again.lane == deliveries[0].lane
    lease = await store.take("job-0", again, stream.consumer)
    assert lease is not None
    await store.commit(lease, DONE)
    assert (await stream.backlog()).pending == 11


async def test_a_job_that_comes_while_nobody_has_work_is_taken_soon(store: JobStore, stream: JobStream) -> None:
    """Waiting ends with the first job of any lane."""
    waiting = asyncio.create_task(stream.take_new(1, 5_000))
    await asyncio.sleep(0.1)
    await store.submit(of_priority("late", Priority.LOW))
    async with asyncio.timeout(2):
        found = await waiting or await stream.take_new(1, 1_000)
    assert [json.loads(delivery.payload)["id"] for delivery in found] == ["late"]


async def test_an_idempotency_key_leads_to_the_first_job(store: JobStore, stream: JobStream) -> None:
    """A client that does not know whether its submission arrived sends it again; another tenant's key is another."""
    keyed = JOB.payload.model_copy(update={"idempotency_key": "order 66"})
    first = await store.submit(Job("a", keyed))
    again = await store.submit(Job("b", keyed))
    other = await store.submit(Job("c", keyed.model_copy(update={"tenant": "other"})))
    assert (first.job_id, first.is_new) == ("a", True)
    assert (again.job_id, again.is_new) == ("a", False)
    assert (other.job_id, other.is_new) == ("c", True)
    assert await store.record("b") is None
    assert len(await stream.take_new(10, 50)) == 2


async def test_a_full_queue_refuses_with_the_time_to_come_back(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Nothing of the refused job is left; room is made by a job that ends."""
    await redis.hset(keys.config, "max_jobs", "2")
    await store.submit(of_priority("a", Priority.HIGH))
    await store.submit(JOB)
    with pytest.raises(RetryableError, match=r"is full: 2 jobs; come back in \d+ s") as error:
        await store.submit(Job("late", JOB.payload))
    assert error.value.retry_after_seconds
    assert await store.record("late") is None
    assert await store.config() == QueueConfig(is_paused=False, num_refused=1)
    (delivery,) = await stream.take_new(1, 50)
    lease = await store.take("a", delivery, stream.consumer)
    assert lease is not None
    await store.commit(lease, DONE)
    assert (await store.submit(Job("late", JOB.payload))).is_new


async def test_nothing_new_is_taken_while_the_queue_is_paused(
    redis: Redis, keys: Keys, store: JobStore, stream: JobStream
) -> None:
    """Submitting goes on, and so do the jobs that run."""
    await store.submit(JOB)
    await redis.hset(keys.config, "paused", "1")
    assert await store.config() == QueueConfig(is_paused=True)
    assert await stream.take_new(1, 10) == []
    await redis.hdel(keys.config, "paused")
    assert await store.config() == QueueConfig()
    assert len(await stream.take_new(1, 10)) == 1
