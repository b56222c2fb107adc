"""The command that Compose asks for a process's health."""

import asyncio
import sys

import pytest

from gsi.local.embedded_redis import free_port
from gsi.rpc.health import LIVENESS, Health


async def exit_code(*arguments: str) -> int:
    check = await asyncio.create_subprocess_exec(sys.executable, "-m", "gsi.rpc.health_check", *arguments)
    return await check.wait()


@pytest.mark.parametrize(("is_ready", "expected"), [(True, 0), (False, 1)])
async def test_the_exit_code_says_whether_a_process_takes_calls(is_ready: bool, expected: int) -> None:
    """The empty name is the default; a process that is alive and not ready gives two answers."""
    health, address = Health(), f"127.0.0.1:{free_port()}"
    await health.start(address)
    await health.set_ready(is_ready=is_ready)
    try:
        assert await exit_code(address) == expected
        assert await exit_code(address, LIVENESS) == 0
    finally:
        await health.stop()


async def test_nobody_there_is_not_healthy() -> None:
    """A process that has not opened its port is not healthy, and the command prints no traceback."""
    assert await exit_code(f"127.0.0.1:{free_port()}") == 1
