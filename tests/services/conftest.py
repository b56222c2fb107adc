"""Services in this process, on free ports, with the shipped models behind them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from gsi.engines.base import Engine, EngineSettings
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.local.embedded_redis import free_port
from gsi.rpc.clients import DraftClient, PrmClient, ServiceClient, TargetClient
from gsi.rpc.server import Loadable, serve
from gsi.runtime.settings import ServiceSettings
from services.draft import servicer as draft_servicer
from services.prm import servicer as prm_servicer
from services.target import servicer as target_servicer
from tests.conftest import MODELS, wait_until

TIMEOUT_SECONDS = 30.0


@dataclass
class Serving:
    """A service that runs in this process."""

    address: str
    stop: asyncio.Event
    task: asyncio.Task[None]


@asynccontextmanager
async def serving(
    service: str,
    add: Callable[[Loadable[Any], grpc.aio.Server], None],
    load: Callable[[], Awaitable[Engine]],
    address: str | None = None,
    **settings: Any,
) -> AsyncIterator[Serving]:
    """Run a service as its process would, without waiting for its model."""
    address, stop = address or f"127.0.0.1:{free_port()}", asyncio.Event()
    chosen = ServiceSettings(listen=address, model="shipped", **settings)
    task = asyncio.create_task(serve(service, chosen, load, add, stop))
    try:
        yield Serving(address, stop, task)
    finally:
        stop.set()
        await task


async def load_shipped(role: str) -> Engine:
    settings = EngineSettings(str(MODELS / role), num_threads=1)
    if role == "prm":
        return await REWARD_ENGINES.load("transformers", settings)
    return await LANGUAGE_ENGINES.load("transformers", settings)


ROLES: dict[str, tuple[Any, Callable[[str, float], ServiceClient]]] = {
    "draft": (draft_servicer, DraftClient),
    "target": (target_servicer, TargetClient),
    "prm": (prm_servicer, PrmClient),
}


def serving_role(role: str, **settings: Any) -> AbstractAsyncContextManager[Serving]:
    servicer, _ = ROLES[role]
    return serving(servicer.SERVICE, servicer.add_to_server, lambda: load_shipped(role), **settings)


@asynccontextmanager
async def client_of(role: str, timeout_seconds: float = TIMEOUT_SECONDS, **settings: Any) -> AsyncIterator[Any]:
    """Yield the port of a service that has loaded its model."""
    _, kind = ROLES[role]
    async with serving_role(role, **settings) as server:
        client: Any = kind(server.address, timeout_seconds)
        await wait_until(client.is_serving, f"{role} serves")
        yield client
        await client.close()


@pytest.fixture
async def draft() -> AsyncIterator[DraftClient]:
    async with client_of("draft") as client:
        yield client


@pytest.fixture
async def target() -> AsyncIterator[TargetClient]:
    async with client_of("target") as client:
        yield client


@pytest.fixture
async def prm() -> AsyncIterator[PrmClient]:
    async with client_of("prm") as client:
        yield client
