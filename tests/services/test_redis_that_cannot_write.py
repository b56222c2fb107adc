"""A Redis that answers and cannot write: its disk or memory is full. Nothing is lost, and work goes on by itself.

A server that waits for replicas which do not exist refuses every write (NOREPLICAS), as one with a full disk (MISCONF)
or a full memory (OOM) does: an error to each command, over a connection that is well.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gsi.jobs.connection import RedisError
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from tests.conftest import wait_until
from tests.system import ModelServices, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUM_JOBS = 6
REFUSED = "redis is away or refuses to work; jobs wait for it"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(model_services: ModelServices) -> AsyncIterator[System]:
    async with model_services.coordinators("full", settings={"GSI_COORDINATOR_LEASE_SECONDS": "2"}) as running:
        yield running


async def shows_redis(system: System, value: float) -> None:
    """Wait until the coordinator's gauge has a value."""

    async def is_shown() -> bool:
        return system.metrics("coordinator-1")["gsi_redis_reachable"] == value

    await wait_until(is_shown, f"gsi_redis_reachable is {value}")


async def test_jobs_go_on_when_the_server_can_write_again(system: System) -> None:
    """A submission is refused with the server's own words; the coordinator says once why it waits, and lives."""
    problems = held_out_problems(NUM_JOBS)
    ids = [
        await system.client.submit({"prompt": problem["prompt"], "params": {"n": 4, "seed": seed}})
        for seed, problem in enumerate(problems)
    ]
    process = system.stack.processes["coordinator-1"].pid
    await system.redis.config_set("min-replicas-to-write", "1")
    try:
        with pytest.raises(RedisError, match="NOREPLICAS"):
            await system.client.submit({"prompt": problems[0]["prompt"]})

        async def is_said() -> bool:
            return bool(system.logged("coordinator-1", REFUSED))

        await wait_until(is_said, "the coordinator says that Redis refuses")
        await shows_redis(system, 0)
        await asyncio.sleep(3)  # longer than a lease
    finally:
        await system.redis.config_set("min-replicas-to-write", "0")
    records = [await system.finished(job_id) for job_id in ids]
    assert {record.state for record in records} == {JobState.SUCCEEDED}
    assert system.stack.processes["coordinator-1"].pid == process
    await shows_redis(system, 1)


async def test_it_is_seen_with_nothing_to_do(system: System) -> None:
    """An alert must not wait for the first job of the morning. Reading the queue goes well all the time."""
    await system.redis.config_set("min-replicas-to-write", "1")
    try:
        await shows_redis(system, 0)
        await asyncio.sleep(3)  # longer than between two looks at the queue
        assert system.metrics("coordinator-1")["gsi_redis_reachable"] == 0
    finally:
        await system.redis.config_set("min-replicas-to-write", "0")
    await shows_redis(system, 1)
