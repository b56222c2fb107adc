"""The connection: warnings about a server that may lose jobs, and cancellation that reaches a task."""

import asyncio

import pytest

from gsi.jobs.connection import Redis, connect, durability_warnings
from gsi.local.embedded_redis import embedded_redis


async def test_the_embedded_server_loses_nothing_by_its_configuration(redis: Redis) -> None:
    """It writes an append-only file and evicts nothing."""
    assert await durability_warnings(redis) == []


async def test_a_server_that_may_lose_jobs_is_named(redis: Redis) -> None:
    """The warning says which setting, and what it can cost."""
    with embedded_redis() as url:
        redis = connect(url)
        await redis.config_set("appendonly", "no")
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        warnings = await durability_warnings(redis)
        await redis.aclose()
    assert [warning.split(":")[0] for warning in warnings] == ["appendonly is off", "maxmemory-policy is allkeys-lru"]


async def test_cancellation_reaches_a_task_that_talks_to_redis_all_the_time(redis: Redis) -> None:
    """In Python 3.11 redis-py's own sending may lose a cancellation; ours does not."""

    async def ask() -> None:
        async with asyncio.timeout(0.05):
            while True:
                await redis.hmget("nothing", "a", "b")

    for _ in range(20):
        with pytest.raises(TimeoutError):
            await ask()
