"""Everything that a queue may leave behind is found, and nothing else."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gsi.jobs.keys import GROUP, Keys
from tests.chaos.orphans import find_orphans, list_consumers

LATER = 2_000_000_000_000


async def _healthy(redis: Any, keys: Keys) -> None:
    """Write one job of each kind, each in its place."""
    entry = await redis.xadd(keys.jobs, {"job": "{}"})
    await redis.hset(keys.record("runs"), mapping={"state": "RUNNING", "entry_id": entry, "lane": keys.jobs, **_OF_A})
    reserved = await redis.xadd(keys.jobs, {"job": "{}"})
    waits = {"state": "QUEUED", "entry_id": reserved, "lane": keys.jobs, "reserved": 1, **_OF_A}
    await redis.hset(keys.record("is-unparked"), mapping=waits)
    await redis.hset(keys.tenants, "a", 2)
    await redis.hset(keys.record("is-delayed"), mapping={"state": "QUEUED", "lane": keys.jobs, **_OF_A})
    await redis.zadd(keys.delayed, {"is-delayed": LATER})
    await redis.hset(keys.record("is-parked"), mapping={"state": "QUEUED", "lane": keys.jobs, **_OF_A})
    await redis.rpush(keys.parked("a"), "is-parked")
    await redis.sadd(keys.parked_tenants, "a")
    await redis.hset(keys.record("ended"), mapping={"state": "SUCCEEDED", "entry_id": "1-1", "lane": keys.jobs})
    await redis.xadd(keys.steps("ended"), {"step": "{}"})
    for key in (keys.record("ended"), keys.steps("ended")):
        await redis.pexpire(key, 60_000)


_OF_A = {"tenant": "a"}


async def test_a_healthy_queue_leaves_nothing_behind(redis: Any, queue: str) -> None:
    await _healthy(redis, Keys(queue))
    assert await find_orphans(redis, Keys(queue)) == []


Damage = Callable[[Any, Keys], Awaitable[Any]]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "in no place": (lambda redis, keys: redis.delete(keys.delayed), "is-delayed is QUEUED and stands in 0 places"),
    "in two places": (
        lambda redis, keys: redis.zadd(keys.delayed, {"is-parked": LATER}),
        "is-parked is QUEUED and stands in 2 places",
    ),
    "parked twice": (lambda redis, keys: redis.rpush(keys.parked("a"), "is-parked"), "stands in 2 places"),
    "no entry": (lambda redis, keys: redis.hdel(keys.record("runs"), "entry_id"), "runs is RUNNING and stands in 0"),
    "count too high": (lambda redis, keys: redis.hset(keys.tenants, "a", 3), "tenant a has 2 jobs in flight"),
    "count of nobody": (lambda redis, keys: redis.hset(keys.tenants, "b", 1), "tenant b has 0 jobs in flight"),
    "record for ever": (lambda redis, keys: redis.persist(keys.record("ended")), "job:ended has no lifetime"),
    "steps for ever": (lambda redis, keys: redis.persist(keys.steps("ended")), "job:ended:steps has no lifetime"),
    "delayed end": (lambda redis, keys: redis.zadd(keys.delayed, {"ended": LATER}), "ended is delayed, and no record"),
    "parked nobody": (lambda redis, keys: redis.rpush(keys.parked("a"), "nobody"), "nobody is parked for a, and no"),
    "not listed": (lambda redis, keys: redis.delete(keys.parked_tenants), "tenant a is not listed as having parked"),
    "listed": (lambda redis, keys: redis.sadd(keys.parked_tenants, "b"), "tenant b is listed as having parked jobs"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
async def test_each_damage_is_found(redis: Any, queue: str, damage: Damage, sentence: str) -> None:
    keys = Keys(queue)
    await _healthy(redis, keys)
    await damage(redis, keys)
    [found] = await find_orphans(redis, keys)
    assert sentence in found


async def test_consumers_of_all_lanes_are_listed(redis: Any, queue: str) -> None:
    keys = Keys(queue)
    assert await list_consumers(redis, keys) == set()
    for number, lane in enumerate(keys.lanes):
        await redis.xgroup_create(lane, GROUP, mkstream=True)
        await redis.xgroup_createconsumer(lane, GROUP, f"host-{number}-abc")
    assert await list_consumers(redis, keys) == {"host-0-abc", "host-1-abc", "host-2-abc"}
