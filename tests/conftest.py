"""Real parts for all tests: a Redis-protocol server, and the whole system in processes of its own.

Hypothesis draws the same examples every time, and has no deadline: a slow machine is not a failure.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

from gsi.jobs.connection import Redis, connect
from gsi.local.embedded_redis import embedded_redis
from tests.system import ModelServices, start_model_services

pytest_plugins = ("tests.parallel",)

MODELS = Path(__file__).parents[1] / "models"
WAIT_SECONDS = 60.0

# The shipped models are so small that the threads of a forward pass mostly wait for each other: on a busy machine a
# pass by two threads takes twenty times the processor time of a pass by one. Torch reads this, also in child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_queues = itertools.count()

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


async def wait_until(predicate: Callable[[], Awaitable[bool]], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait for something to become true; fail with what it was."""
    deadline = time.monotonic() + seconds
    while not await predicate():
        assert time.monotonic() < deadline, f"waited {seconds} s until {what}"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server for the whole session; each test has a queue of its own."""
    with embedded_redis() as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def model_services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelServices]:
    """Model services for the whole session. A test that uses them runs in the session's loop."""
    async with start_model_services(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def queue() -> str:
    return f"test-{next(_queues)}"
