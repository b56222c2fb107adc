"""The life of the process of another node than node 0, with a follower that does nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gsi.errors import InternalError
from gsi.local.embedded_redis import free_port
from gsi.rpc.following import follow
from gsi.rpc.health import LIVENESS
from gsi.runtime.settings import ServiceSettings
from tests.conftest import wait_until


class Node:
    """Workers that live until the test ends them."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.is_closed = False

    async def wait_until_dead(self) -> str:
        await self.end.wait()
        return "node 0 has gone"

    def close(self) -> None:
        self.is_closed = True


class Process:
    """A running ``follow``: its settings, its stop, its health."""

    def __init__(self, load: Callable[[], Awaitable[Node]], grace_seconds: float = 30.0) -> None:
        self.listen, health_listen = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.stop = asyncio.Event()
        settings = ServiceSettings(
            listen=self.listen,
            health_listen=health_listen,
            model="shipped",
            grace_seconds=grace_seconds,
            drain_pause_seconds=0,
        )
        self.task = asyncio.create_task(follow(settings, load, 1, self.stop))
        self._channel = grpc.aio.insecure_channel(health_listen)

    async def is_serving(self, name: str) -> bool:
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def until_ready(self) -> None:
        await wait_until(lambda: self.is_serving(""), "the node is ready")

    async def close(self) -> None:
        await self._channel.close()


async def test_it_lives_at_once_and_is_ready_when_it_has_loaded() -> None:
    """Loading takes minutes, and Kubernetes probes meanwhile. The process takes no calls."""
    node, is_loaded = Node(), asyncio.Event()

    async def load() -> Node:
        await is_loaded.wait()
        return node

    process = Process(load)
    assert await process.is_serving(LIVENESS)
    assert not await process.is_serving("")
    is_loaded.set()
    await process.until_ready()
    host, _, port = process.listen.partition(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))
    node.end.set()
    with pytest.raises(InternalError, match="node 0 has gone"):
        await process.task
    assert node.is_closed
    await process.close()


async def test_told_to_stop_it_works_until_node_zero_has_drained() -> None:
    """It is not ready any more, and works as long as node 0 has calls to finish."""
    node = Node()

    async def load() -> Node:
        return node

    process = Process(load)
    await process.until_ready()
    process.stop.set()

    async def is_draining() -> bool:
        return not await process.is_serving("")

    await wait_until(is_draining, "the node is not ready any more")
    assert await process.is_serving(LIVENESS)
    assert not process.task.done()
    node.end.set()
    await process.task
    assert node.is_closed
    await process.close()


async def test_it_does_not_wait_for_node_zero_for_ever() -> None:
    """After the grace period it stops by itself."""
    node = Node()

    async def load() -> Node:
        return node

    process = Process(load, grace_seconds=0.1)
    await process.until_ready()
    process.stop.set()
    await process.task
    assert node.is_closed
    assert not node.end.is_set()
    await process.close()


async def test_it_can_be_stopped_while_it_waits_for_the_others() -> None:
    """Node 0 may never come."""

    async def load() -> Node:
        await asyncio.Event().wait()
        return Node()

    process = Process(load)
    assert await process.is_serving(LIVENESS)
    process.stop.set()
    await process.task
    await process.close()
