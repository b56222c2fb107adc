"""Scripted models and a coordinator in this process, and gateways in front of them, each a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from openai import AsyncOpenAI

from benchmarks.no_op_engines import Judge
from gsi.client.sdk import AsyncClient
from gsi.local.child_process import ChildProcess
from gsi.local.embedded_redis import free_port
from gsi.local.stack import ROLES
from gsi.rpc.server import serve
from gsi.runtime.settings import ServiceSettings
from services.coordinator import __main__ as coordinator
from services.coordinator.settings import CoordinatorSettings
from services.draft import servicer as draft
from services.draft.settings import DraftSettings
from services.prm import servicer as prm
from services.prm.settings import PrmSettings
from services.target import servicer as target
from services.target.settings import TargetSettings
from tests.gateway.engines import Scripted

SERVICES: dict[str, tuple[str, type[ServiceSettings], Any]] = {
    "draft": (draft.SERVICE, DraftSettings, draft.add_to_server),
    "target": (target.SERVICE, TargetSettings, target.add_to_server),
    "prm": (prm.SERVICE, PrmSettings, prm.add_to_server),
}
ENGINES: Mapping[str, Callable[[], Any]] = {"draft": Scripted, "target": Scripted, "prm": Judge}
Events = list[tuple[str, Mapping[str, Any]]]


@dataclass
class Gateway:
    """A gateway, with the jobs behind it."""

    url: str
    metrics_url: str
    jobs: AsyncClient
    process: ChildProcess
    events: Events = field(default_factory=list)
    clients: dict[str, AsyncOpenAI] = field(default_factory=dict)

    def openai(self, key: str = "none") -> AsyncOpenAI:
        """Return a client with this key, which is closed with the gateway."""
        if key not in self.clients:
            self.clients[key] = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)
        return self.clients[key]

    async def close(self) -> None:
        for client in self.clients.values():
            await client.close()

    def http(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def logged(self, event: str) -> list[Mapping[str, Any]]:
        return [said for _, said in self.events if said["event"] == event]


@dataclass(frozen=True)
class Models:
    """Scripted model services with a coordinator on one queue."""

    redis_url: str
    queue: str
    folder: Path

    @asynccontextmanager
    async def gateway(self, name: str, settings: Mapping[str, str] | None = None) -> AsyncIterator[Gateway]:
        """Run a gateway on the queue."""
        url, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        environment = {
            "GSI_GATEWAY_LISTEN": url,
            "GSI_GATEWAY_METRICS_LISTEN": metrics,
            "GSI_GATEWAY_REDIS_URL": self.redis_url,
            "GSI_GATEWAY_QUEUE": self.queue,
            "GSI_GATEWAY_LOG_FORMAT": "json",
        } | dict(settings or {})
        events: Events = []
        command = [sys.executable, "-m", "services.gateway"]
        process = ChildProcess(
            name, command, environment, self.folder / f"{name}.log", lambda of, event: events.append((of, event))
        )
        async with AsyncClient(self.redis_url, self.queue) as jobs:
            await process.start()
            try:
                running = Gateway(f"http://{url}", f"http://{metrics}/metrics", jobs, process, events)
                yield running
                await running.close()
            finally:
                await process.stop()


@asynccontextmanager
async def scripted_models(
    folder: Path,
    redis_url: str,
    queue: str,
    engines: Mapping[str, Callable[[], Any]] = ENGINES,
    settings_of_coordinator: Mapping[str, Any] | None = None,
) -> AsyncIterator[Models]:
    """Run scripted model services and a coordinator, in this process: they are small, and start at once."""
    stop = asyncio.Event()
    addresses = {role: f"127.0.0.1:{free_port()}" for role in ROLES}
    given = {"redis_url": redis_url, "queue": queue, "max_jobs": 64} | dict(settings_of_coordinator or {})
    settings = CoordinatorSettings.model_validate(given | addresses)
    with (
        patch.object(coordinator, "stop_on_signals", return_value=stop),
        patch.object(coordinator, "serve_metrics"),
    ):
        running = [
            asyncio.create_task(_serve(role, address, stop, engines[role])) for role, address in addresses.items()
        ]
        running.append(asyncio.create_task(coordinator.coordinate(settings)))
        await asyncio.sleep(0)  # it has begun, by its own event; coordinators of other tests here take signals
    try:
        yield Models(redis_url, queue, folder)
    finally:
        stop.set()
        await asyncio.gather(*running)


async def _serve(role: str, address: str, stop: asyncio.Event, make_engine: Callable[[], Any]) -> None:
    service, kind, add_to_server = SERVICES[role]
    engine = make_engine()

    async def load() -> Any:
        return engine

    settings = kind(listen=address, model="scripted", engine="scripted", grace_seconds=0)
    await serve(service, settings, load, add_to_server, stop)
