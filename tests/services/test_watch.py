"""A process ends with an error when a part of it ends that it cannot do without."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from gsi.engines.base import EngineSettings
from gsi.errors import InternalError
from gsi.local.embedded_redis import free_port
from gsi.rpc.clients import DraftClient
from gsi.rpc.following import follow
from gsi.rpc.health import LIVENESS
from gsi.rpc.server import Loadable, serve
from gsi.rpc.service_process import EXIT_ENGINE_DIED
from gsi.rpc.watch import watch_until
from gsi.runtime.settings import ServiceSettings
from services.draft import servicer as draft_servicer
from tests.conftest import wait_until
from tests.services.test_following import Node
from tests.services.test_health import watch_status
from tests.services.test_model_services import EndlessEngine, already, status

ROOT = Path(__file__).parents[2]
FAILURE = "cannot be watched any more: ValueError\\('the watch broke'\\)"


async def breaks(may_break: asyncio.Event) -> str:
    await may_break.wait()
    raise ValueError("the watch broke")


class UnwatchableEngine(EndlessEngine):
    """Fails when it is asked whether it has died."""

    @classmethod
    async def load(cls, settings: EngineSettings) -> "UnwatchableEngine":
        engine = cls()
        engine.death.set()
        return engine

    async def wait_until_dead(self) -> str:
        return await breaks(self.death)


class UnwatchableNode(Node):
    async def wait_until_dead(self) -> str:
        return await breaks(self.end)


async def test_a_part_that_ends_says_why() -> None:
    """This holds before the process is told to stop; afterwards an end is expected."""

    async def ended() -> str:
        return "the part has ended"

    stop = asyncio.Event()
    assert await watch_until(stop.wait(), ended(), asyncio.sleep(60, "never")) == "the part has ended"
    stop.set()
    assert await watch_until(stop.wait(), asyncio.sleep(60, "never")) is None


async def test_a_watch_that_fails_is_an_error() -> None:
    """The end of the part would go unnoticed. The other watches end as well."""
    is_cancelled, may_break = asyncio.Event(), asyncio.Event()

    async def other() -> str:
        may_break.set()
        try:
            return await asyncio.sleep(60, "never")
        finally:
            is_cancelled.set()

    with pytest.raises(InternalError, match=FAILURE):
        await watch_until(asyncio.sleep(60), breaks(may_break), other())
    assert is_cancelled.is_set()


Add = Callable[[Loadable[Any], grpc.aio.Server], None]


def run_serve(engine: Any, add: Add = draft_servicer.add_to_server, **settings: Any) -> tuple[str, asyncio.Task[None]]:
    """Serve as the draft's process does; return the address and the task."""
    address = f"127.0.0.1:{free_port()}"
    chosen = ServiceSettings(listen=address, model="shipped", **settings)
    load = partial(already, engine)
    return address, asyncio.create_task(serve(draft_servicer.SERVICE, chosen, load, add, asyncio.Event()))


async def is_serving(address: str) -> bool:
    return await status(address) == "SERVING"


async def test_a_service_whose_engine_cannot_be_watched_ends_as_one_whose_engine_died() -> None:
    """Probes learn it, and the process does not wait for its whole grace period."""
    engine, probed = UnwatchableEngine(), f"127.0.0.1:{free_port()}"
    address, service = run_serve(engine, health_listen=probed, grace_seconds=3000)
    await wait_until(lambda: is_serving(address), "it serves")
    watching = asyncio.create_task(watch_status(probed, LIVENESS))
    await asyncio.sleep(0.2)
    engine.death.set()
    with pytest.raises(InternalError, match=FAILURE):
        await service
    assert await watching == ["SERVING", "NOT_SERVING"]


async def test_a_service_whose_server_ends_by_itself_ends() -> None:
    """It would go on, answer its probes, and take no calls."""
    servers: list[grpc.aio.Server] = []

    def add(engine: Loadable[Any], server: grpc.aio.Server) -> None:
        draft_servicer.add_to_server(engine, server)
        servers.append(server)

    address, service = run_serve(EndlessEngine(), add)
    await wait_until(lambda: is_serving(address), "it serves")
    await servers[0].stop(grace=None)
    with pytest.raises(InternalError, match="the gRPC server has ended by itself"):
        await service


@pytest.mark.parametrize("kind", ["serve", "follow"])
async def test_a_process_whose_probes_are_not_answered_any_more_ends(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor would notice in time, but would not know why."""
    probed, servers = f"127.0.0.1:{free_port()}", []
    make = grpc.aio.server

    def noted(*given: Any, **named: Any) -> Any:
        servers.append(make(*given, **named))
        return servers[-1]

    monkeypatch.setattr(grpc.aio, "server", noted)
    if kind == "serve":
        _, process = run_serve(EndlessEngine(), health_listen=probed)
    else:
        process = run_follow(Node(), probed)
    await wait_until(lambda: is_serving(probed), "it is ready")
    await servers[-1].stop(grace=None)
    with pytest.raises(InternalError, match="the gRPC server has ended by itself"):
        await process


def run_follow(node: Node, probed: str, stop: asyncio.Event | None = None) -> asyncio.Task[None]:
    settings = ServiceSettings(listen="127.0.0.1:0", health_listen=probed, model="shipped", grace_seconds=3000)
    load: Callable[[], Awaitable[Node]] = partial(already, node)
    return asyncio.create_task(follow(settings, load, 1, stop or asyncio.Event()))


@pytest.mark.parametrize("is_draining", [False, True])
async def test_a_node_that_cannot_be_watched_ends_with_an_error(is_draining: bool) -> None:
    """This holds while it works, and while it waits for node 0 to drain."""
    node, probed, stop = UnwatchableNode(), f"127.0.0.1:{free_port()}", asyncio.Event()
    process = run_follow(node, probed, stop)
    await wait_until(lambda: is_serving(probed), "it is ready")
    if is_draining:
        stop.set()

        async def drains() -> bool:
            return not await is_serving(probed)

        await wait_until(drains, "it drains")
    node.end.set()
    with pytest.raises(InternalError, match=FAILURE):
        await process
    assert node.is_closed


def test_the_process_exits_as_if_its_engine_had_died() -> None:
    """A supervisor starts it again, and the last line of its log has the reason."""
    script = (
        "from gsi.engines.registry import EngineTable\n"
        "from gsi.rpc.service_process import run_service\n"
        "from services.draft.servicer import SERVICE, add_to_server\n"
        "from services.draft.settings import DraftSettings\n"
        f"engines = EngineTable({{'transformers': '{__name__}:UnwatchableEngine'}})\n"
        "run_service('draft', SERVICE, DraftSettings, engines, add_to_server)\n"
    )
    settings = {"GSI_DRAFT_LISTEN": "127.0.0.1:0", "GSI_DRAFT_MODEL": "shipped", "GSI_DRAFT_LOG_FORMAT": "json"}
    command, environment = [sys.executable, "-c", script], {**os.environ, **settings}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == EXIT_ENGINE_DIED
    assert "the engine died; this process is to be started again" in ran.stderr.splitlines()[-1]
    assert "the watch broke" in ran.stderr.splitlines()[-1]


async def test_an_old_channel_that_cannot_be_closed_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new channel works, so nothing else would show the failure."""
    client = DraftClient("127.0.0.1:1", 1.0)
    connection = client.replicas.in_turn

    async def fail(grace: float | None = None) -> None:
        raise ValueError("it does not close")

    old = connection._channel
    monkeypatch.setattr(old, "close", fail)
    with capture_logs() as logs:
        connection._reopen(None)
        await wait_until(partial(_is_empty, connection._closing), "the old channel is forgotten")
    assert [(entry["event"], entry["error"]) for entry in logs] == [
        ("an old channel could not be closed", "ValueError('it does not close')")
    ]
    monkeypatch.undo()
    await old.close()
    await client.close()


async def _is_empty(tasks: set[Any]) -> bool:
    return not tasks
