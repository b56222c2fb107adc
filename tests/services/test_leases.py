"""A coordinator looks after all of its leases in one round trip, and none of them suffers from another."""

import asyncio
from typing import Any

import pytest

from gsi.jobs import connection
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import Hold, JobWriter, Lease
from services.coordinator.leases import LeaseKeeper
from tests.conftest import wait_until

NUM_JOBS = 50
PAYLOAD = parse_payload({"prompt": "How much is 2 + 3?"})


class Held:
    """A queue whose jobs one coordinator has taken."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self.redis: Any = redis
        self.keys = Keys(queue)
        self.submitter, self.writer = JobSubmitter(redis, self.keys), JobWriter(redis, self.keys)
        self.stream = JobStream(redis, self.keys, "worker")
        self.leases: list[Lease] = []

    async def take_all(self) -> None:
        await self.stream.create_group()
        for number in range(NUM_JOBS):
            await self.submitter.submit(Job(f"job-{number}", PAYLOAD))
        for number, delivery in enumerate(await self.stream.take_new(NUM_JOBS, 1000)):
            lease = await self.writer.take(f"job-{number}", delivery)
            assert lease is not None
            self.leases.append(lease)

    async def idle_ms(self, lease: Lease) -> int:
        entry = lease.entry_id
        (pending,) = await self.redis.xpending_range(lease.lane, GROUP, entry, entry, count=1)
        idle: int = pending["time_since_delivered"]
        return idle

    async def age(self, lease: Lease, milliseconds: int) -> None:
        """Make a lease as old as if nobody had renewed it for so long."""
        await self.redis.xclaim(lease.lane, GROUP, lease.consumer, 0, [lease.entry_id], idle=milliseconds, justid=True)


@pytest.fixture
async def held(redis: Redis, queue: str) -> Held:
    made = Held(redis, queue)
    await made.take_all()
    return made


@pytest.mark.parametrize("action", ["renew", "look_at"])
async def test_all_leases_are_one_round_trip(held: Held, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; each is told whether it holds, and why its job is to be cancelled."""
    await held.submitter.cancel("job-3", "not needed")
    await held.redis.hset(held.keys.record("job-5"), "nonce", "of another coordinator")
    sent = 0
    send = connection._PlainConnection.send_packed_command

    async def count(self: Any, *given: Any, **named: Any) -> None:
        nonlocal sent
        sent += 1
        await send(self, *given, **named)

    monkeypatch.setattr(connection._PlainConnection, "send_packed_command", count)
    holds = await getattr(held.writer, action)(held.leases)
    assert sent == 1
    expected = [Hold(is_held=True)] * NUM_JOBS
    expected[3], expected[5] = Hold(is_held=True, cancel_reason="not needed"), Hold(is_held=False)
    assert holds == expected


async def test_a_record_that_somebody_has_spoilt_harms_no_other_lease(held: Held) -> None:
    """The other leases are renewed and their jobs cancelled, whichever comes first."""
    keeper, spoilt, cancelled, renewed = LeaseKeeper(held.writer, 1.0), *held.leases[:3]
    ends: list[str] = []

    async def run(lease: Lease) -> None:
        try:
            async with keeper.hold(lease):
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append(lease.job_id)

    runs = [asyncio.create_task(run(lease)) for lease in (spoilt, cancelled, renewed)]
    await asyncio.sleep(0)
    await held.redis.set(held.keys.record(spoilt.job_id), "no record")
    await held.submitter.cancel(cancelled.job_id, "not needed")
    await held.age(renewed, 60_000)
    keeping = asyncio.create_task(keeper.keep())

    async def are_served() -> bool:
        return ends == [cancelled.job_id] and await held.idle_ms(renewed) < 30_000

    try:
        await wait_until(are_served, "one lease is renewed and the other's job cancelled")
    finally:
        for task in (keeping, *runs):
            task.cancel()
        await asyncio.gather(keeping, *runs, return_exceptions=True)
