"""Redis is unavailable: a coordinator's gauge says so, also without jobs and before its services serve."""

import asyncio
import os
import signal
from pathlib import Path

from prometheus_client import REGISTRY

from gsi.jobs.redis_metrics import REDIS_REACHABLE
from gsi.local.embedded_redis import embedded_redis, free_port
from services.coordinator.__main__ import coordinate
from services.coordinator.settings import CoordinatorSettings
from tests.conftest import wait_until


async def shown(value: float) -> None:
    """Wait until the gauge has a value."""

    async def is_shown() -> bool:
        return REGISTRY.get_sample_value("gsi_redis_reachable") == value

    await wait_until(is_shown, f"gsi_redis_reachable is {value}")


async def test_redis_is_seen_to_go_and_come_while_the_services_are_awaited(tmp_path: Path) -> None:
    """The gauge is 0 until the first connection, and then correct although no service ever serves."""
    REDIS_REACHABLE.set(0)  # as in a process that has just begun
    port, nobody = free_port(), f"127.0.0.1:{free_port()}"
    settings = CoordinatorSettings(redis_url=f"redis://127.0.0.1:{port}/0", draft=nobody, target=nobody, prm=nobody)
    coordinator = asyncio.create_task(coordinate(settings))
    try:
        await asyncio.sleep(1)
        assert REGISTRY.get_sample_value("gsi_redis_reachable") == 0
        for _ in range(2):
            with embedded_redis(tmp_path, port):
                await shown(1)
            await shown(0)
        assert not coordinator.done()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # as the coordinator's own process would be told
        await coordinator
