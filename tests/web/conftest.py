"""A browser for all tests of the page, scripted models behind a gateway, and a page that must stay quiet."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.gateway.system import Gateway, Models, scripted_models
from tests.web.browser import chromium, quiet_page
from tests.web.engines import ENGINES
from tests.web.idle_queue import IdleQueue, idle_queue


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def models(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> AsyncIterator[Models]:
    async with scripted_models(tmp_path_factory.mktemp("web"), redis_url, "web-tests", ENGINES) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(models: Models) -> AsyncIterator[Gateway]:
    async with models.gateway("web") as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, gateway: Gateway) -> AsyncIterator[Page]:
    """A page in a fresh profile: ``await page.goto("/#/")`` opens a view."""
    async with quiet_page(browser, gateway.url) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def waiting(models: Models, request: pytest.FixtureRequest) -> AsyncIterator[IdleQueue]:
    """A queue of the module's own, whose jobs wait for the test."""
    async with idle_queue(models.redis_url, f"waiting-{_name_of(request)}") as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def idle(models: Models, waiting: IdleQueue, request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """A gateway on the queue that the test works on."""
    async with models.gateway(f"idle-{_name_of(request)}", {"GSI_GATEWAY_QUEUE": waiting.name}) as running:
        yield running


def _name_of(request: pytest.FixtureRequest) -> str:
    """Return the name of a module without its packages and ``test_``: these names stand in a queue's name."""
    name: str = request.module.__name__
    return name.rpartition("test_")[2]
