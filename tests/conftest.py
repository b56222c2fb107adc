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
from hypothesis import settings

from gsi.jobs.connection import Redis, connect
from gsi.local.embedded_redis import embedded_redis

MODELS = Path(__file__).parents[1] / "models"
WAIT_SECONDS = 60.0

SHARED_SCOPES = {"class", "module", "package"}

_queues = itertools.count()

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)  # before xdist's own, which reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run in several processes, keep together those that share a fixture, and start them first.

    A fixture of a module may be a whole system with three models: it must not start in every process. Tests of
    services come next, because each may take half a minute, and the last minute shall keep all processes busy.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    for item in items:
        if _shares_a_fixture(item) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(config.rootpath).as_posix()))
    items.sort(key=lambda item: (not _shares_a_fixture(item), item.path.parent.name != "services"))


def _shares_a_fixture(item: pytest.Item) -> bool:
    found = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return any(fixture.scope in SHARED_SCOPES for fixtures in found.values() for fixture in fixtures)


async def wait_until(predicate: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for something to become true; fail with what it was."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not await predicate():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s until {what}"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server for the whole session; each test has a queue of its own."""
    with embedded_redis() as url:
        yield url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def queue() -> str:
    return f"test-{next(_queues)}"
