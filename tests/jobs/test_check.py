"""``gsi queue check``: it finds what breaks the queue's invariants, mends it, and finds nothing in a healthy queue."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from gsi.cli.main import app
from gsi.jobs.check import QueueCheck
from gsi.jobs.connection import Redis, connect
from gsi.jobs.job import claim
from gsi.jobs.keys import DEFAULT_TENANT, GROUP, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter
from tests.jobs.sample import DONE, JOB, of_priority, step, take

NOBODY = "no coordinator will be given it"


@dataclass
class Queue:
    """A queue with a limit of one job in flight per tenant."""

    redis: Any
    keys: Keys

    def __post_init__(self) -> None:
        self.submitter, self.reader = JobSubmitter(self.redis, self.keys), JobReader(self.redis, self.keys)
        self.writer = JobWriter(self.redis, self.keys, Policy(max_jobs_per_tenant=1))
        self.stream = JobStream(self.redis, self.keys, "worker")

    async def check(self, *, repair: bool = False, idle_seconds: float = 3600) -> list[str]:
        return [str(each) async for each in QueueCheck(self.redis, self.keys, repair=repair).run(idle_seconds)]

    async def finish_all(self) -> None:
        """Take and finish jobs until no entry is left."""
        for _ in range(10):
            await self.writer.promote_due()
            await self.writer.unpark_all()
            for delivery in await self.stream.take_over(10, 0) + await self.stream.take_new(10, 1):
                lease = await self.writer.take(claim(delivery.payload).id or delivery.job_id or "", delivery)
                if lease is not None:
                    await self.writer.commit(lease, DONE)


@pytest.fixture
async def checked(redis: Redis, keys: Keys) -> Queue:
    queue = Queue(redis, keys)
    await queue.stream.create_group()
    return queue


async def running(queue: Queue) -> None:
    """One job runs, and has kept a step."""
    await queue.submitter.submit(JOB)
    lease = await take(queue.writer, queue.stream)
    await queue.writer.append_step(lease, step(0))


async def trimmed(queue: Queue) -> None:
    await running(queue)
    await queue.redis.xtrim(queue.keys.jobs, maxlen=0)


async def consumer_deleted(queue: Queue) -> None:
    """The server forgets what the consumer held."""
    await running(queue)
    await queue.redis.xgroup_delconsumer(queue.keys.jobs, GROUP, "worker")


async def never_waits_again(queue: Queue) -> None:
    """Its member of the delayed set was deleted."""
    await queue.submitter.submit(JOB)
    await queue.writer.retry(await take(queue.writer, queue.stream), "full", delay_seconds=60)
    await queue.redis.delete(queue.keys.delayed)


async def waits_twice(queue: Queue) -> None:
    await queue.submitter.submit(JOB)
    await queue.redis.zadd(queue.keys.delayed, {JOB.id: 0})
    await queue.redis.rpush(queue.keys.parked(DEFAULT_TENANT), JOB.id, JOB.id)
    await queue.redis.sadd(queue.keys.parked_tenants, DEFAULT_TENANT)


async def parked_and_not_found(queue: Queue) -> None:
    """Its tenant is not among those that have parked jobs."""
    await running(queue)
    await queue.submitter.submit(of_priority("job-2", JOB.payload.priority))
    (delivery,) = await queue.stream.take_new(1, 10)
    assert await queue.writer.take("job-2", delivery) is None
    await queue.redis.delete(queue.keys.parked_tenants)


async def list_of_nobody(queue: Queue) -> None:
    await queue.redis.rpush(queue.keys.parked("a"), "gone")
    await queue.redis.sadd(queue.keys.parked_tenants, "a")
    await queue.redis.zadd(queue.keys.delayed, {"lost": 2e12})


async def place_leaked(queue: Queue) -> None:
    await queue.submitter.submit(JOB)
    await queue.redis.hset(queue.keys.tenants, DEFAULT_TENANT, 3)


async def count_lost(queue: Queue) -> None:
    await running(queue)
    await queue.redis.delete(queue.keys.tenants)


async def stays_for_ever(queue: Queue) -> None:
    await running(queue)
    await queue.finish_all()
    await queue.redis.persist(queue.keys.record(JOB.id))
    await queue.redis.persist(queue.keys.steps(JOB.id))


async def steps_alone(queue: Queue) -> None:
    await queue.redis.xadd(queue.keys.steps("gone"), {"step": "{}", "token": "1"})


FAULTS: dict[str, tuple[Callable[[Queue], Awaitable[None]], set[str]]] = {
    "trimmed": (trimmed, {f"job job-1: it is RUNNING, and {NOBODY}"}),
    "consumer deleted": (consumer_deleted, {f"job job-1: it is RUNNING, and {NOBODY}"}),
    "delay lost": (never_waits_again, {f"job job-1: it is QUEUED, and {NOBODY}"}),
    "in three places": (
        waits_twice,
        {
            "job job-1: it is delayed, and does not wait",
            "job job-1: it is parked 2 times; allowed: once, if it waits nowhere else",
        },
    ),
    "parked for ever": (
        parked_and_not_found,
        {"tenant default: the set of tenants with parked jobs is wrong about it"},
    ),
    "nobody waits": (
        list_of_nobody,
        {
            "job gone: it is parked 1 times; allowed: once, if it waits nowhere else",
            "job lost: it is delayed, and does not wait",
        },
    ),
    "place leaked": (place_leaked, {"tenant default: it counts 3 jobs in flight, and has 0"}),
    "count lost": (count_lost, {"tenant default: it counts 0 jobs in flight, and has 1"}),
    "stays for ever": (
        stays_for_ever,
        {
            "job job-1: it is SUCCEEDED, and its record would stay for ever",
            "job job-1: it is SUCCEEDED, and its steps would stay for ever",
        },
    ),
    "steps alone": (steps_alone, {"job gone: it has steps and no record"}),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_broken_is_found_and_mended(checked: Queue, fault: str) -> None:
    """A check alone changes nothing; after a repair nothing is wrong, and each job can be finished."""
    make, expected = FAULTS[fault]
    await make(checked)
    assert set(await checked.check()) == expected
    assert set(await checked.check(repair=True)) == expected
    assert await checked.check() == []
    await checked.finish_all()
    assert await checked.check() == []
    record = await checked.reader.record(JOB.id)
    assert record is None or record.state is JobState.SUCCEEDED


async def test_an_entry_without_a_record_that_was_delivered_to_nobody_is_pushed_again(checked: Queue) -> None:
    """Its consumer was deleted before it took the job."""
    await checked.redis.xadd(checked.keys.jobs, {"job": '{"id":"bare","prompt":"hello"}'})
    await checked.stream.take_new(1, 10)
    await checked.redis.xgroup_delconsumer(checked.keys.jobs, GROUP, "worker")
    (found,) = await checked.check(repair=True)
    assert found.endswith(NOBODY)
    await checked.finish_all()
    record = await checked.reader.record("bare")
    assert record is not None
    assert record.state is JobState.SUCCEEDED


async def test_a_consumer_that_holds_nothing_leaves_and_one_that_holds_a_job_stays(checked: Queue) -> None:
    """However idle it is: with it the server would forget who is to run the job."""
    await running(checked)
    await JobStream(checked.redis, checked.keys, "gone").take_new(1, 1)
    assert await checked.check(repair=True, idle_seconds=0) == [
        "consumer gone: it holds nothing, and has asked for nothing for long",
        "consumer worker: it holds nothing, and has asked for nothing for long",  # in the other lanes
    ]
    left = await checked.redis.xinfo_consumers(checked.keys.jobs, GROUP)
    assert [each["name"] for each in left] == [b"worker"]


async def test_a_healthy_queue_in_every_state_has_nothing_wrong(checked: Queue) -> None:
    """Running, parked, delayed, queued, cancelled before delivery, dead and finished jobs."""
    for number in range(6):
        await checked.submitter.submit(of_priority(f"job-{number}", JOB.payload.priority))
    deliveries = await checked.stream.take_new(4, 10)
    leases = [await checked.writer.take(claim(each.payload).id or "", each) for each in deliveries]
    assert leases[0] is not None
    assert leases[1:] == [None, None, None]  # parked
    await checked.writer.retry(leases[0], "full", delay_seconds=60)
    await checked.writer.unpark_all()
    await checked.submitter.cancel("job-5", "not needed")
    await checked.submitter.cancel("job-2", "not needed")
    assert await checked.check() == []


def test_the_command_says_what_it_found_and_exits_with_1_until_it_is_repaired(redis_url: str, queue: str) -> None:
    """As one JSON object too."""

    def gsi(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--redis-url", redis_url, "--queue", queue])

    assert "nothing is wrong" in gsi("queue", "check").stderr
    job_id = gsi("submit", "2 + 3").stdout.strip()

    async def delete_lane() -> None:
        async with connect(redis_url) as server:
            await server.delete(Keys(queue).jobs)

    asyncio.run(delete_lane())
    found = gsi("queue", "check", "--json")
    assert found.exit_code == 1
    problem = f"it is QUEUED, and {NOBODY}"
    assert json.loads(found.stdout) == {
        "findings": [{"subject": f"job {job_id}", "problem": problem}],
        "repaired": False,
    }
    assert "is repaired" in gsi("queue", "check", "--repair").stderr
    assert gsi("queue", "check").exit_code == 0
