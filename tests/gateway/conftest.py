"""One system with scripted models for the tests of a process, and a gateway that asks for no key."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.system import Gateway, Models, scripted_models


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def models(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> AsyncIterator[Models]:
    async with scripted_models(tmp_path_factory.mktemp("gateway"), redis_url, "gateway-tests") as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(models: Models) -> AsyncIterator[Gateway]:
    async with models.gateway("open", {"GSI_GATEWAY_HEARTBEAT_SECONDS": "0.2"}) as running:
        yield running
