"""How a model service lives: listen, load, serve, drain, stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gsi.engines.base import Engine
from gsi.errors import InternalError, RetryableError
from gsi.rpc.connection import KEEPALIVE_MS, KEEPALIVE_OPTIONS, MAX_MESSAGE_BYTES
from gsi.rpc.credentials import server_credentials
from gsi.rpc.interceptors import EdgeInterceptor
from gsi.runtime.settings import ServiceSettings

log = structlog.get_logger()

E = TypeVar("E", bound=Engine)

DEAD_GRACE_SECONDS = 1.0  # calls to a dead engine fail at once; this is for their answers to leave

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # two processes on one port is a mistake to be told, not a load balancer
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),  # else clients are told: too many pings
    *KEEPALIVE_OPTIONS,
)


class Loadable(Generic[E]):
    """An engine that may still be loading."""

    def __init__(self) -> None:
        self._engine: E | None = None

    def set(self, engine: E) -> None:
        self._engine = engine

    def get(self) -> E:
        """Return the engine. Raises RetryableError while it is loading."""
        if self._engine is None:
            raise RetryableError("the model is loading")
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


async def serve(
    grpc_service: str,
    settings: ServiceSettings,
    load: Callable[[], Awaitable[E]],
    add_servicer: Callable[[Loadable[E], grpc.aio.Server], None],
    stop: asyncio.Event,
) -> None:
    """Serve one gRPC service until ``stop`` is set, then finish the calls in flight within the grace period.

    Health is NOT_SERVING until ``load`` has returned, and again from ``stop`` on or once the engine has died.
    Raises OSError if the address cannot be bound, MisconfiguredError if the certificates cannot be used, InternalError
    if the engine died, and what ``load`` raises.
    """
    engine: Loadable[E] = Loadable()
    grace_seconds = settings.grace_seconds
    edge = EdgeInterceptor(settings.max_concurrent_rpcs)
    server = grpc.aio.server(interceptors=[edge], options=SERVER_OPTIONS)
    add_servicer(engine, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((grpc_service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await _set_serving(health_servicer, grpc_service, is_serving=False)
    port = _bind(server, settings)
    await server.start()
    try:
        log.info("loading", model=settings.model, engine=settings.engine)
        engine.set(await load())
        await _set_serving(health_servicer, grpc_service, is_serving=True)
        log.info("ready", address=f"{settings.listen.rpartition(':')[0]}:{port}", model=settings.model)
        await _until_stopped(stop, engine.get())
        log.info("draining", grace_seconds=grace_seconds)
    except InternalError:
        grace_seconds = min(grace_seconds, DEAD_GRACE_SECONDS)
        raise
    finally:
        await health_servicer.enter_graceful_shutdown()
        await edge.drain(grace_seconds)  # the server still answers, so that health can say NOT_SERVING
        await server.stop(grace=None)
        engine.close()
        log.info("stopped")


async def _until_stopped(stop: asyncio.Event, engine: Engine) -> None:
    """Return when ``stop`` is set. Raises InternalError if the engine dies before."""
    stopping, death = asyncio.create_task(stop.wait()), asyncio.create_task(engine.died())
    await asyncio.wait({stopping, death}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, death):
        task.cancel()
    if not stop.is_set():
        raise InternalError(death.result())


def _bind(server: grpc.aio.Server, settings: ServiceSettings) -> int:
    files = settings.certificate_files()
    try:
        if files is None:
            return server.add_insecure_port(settings.listen)
        return server.add_secure_port(settings.listen, server_credentials(files))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {settings.listen}: {error}") from error


async def _set_serving(servicer: health.aio.HealthServicer, grpc_service: str, *, is_serving: bool) -> None:
    """Set the state of the service, and of the process as a whole (the empty name, which probes ask for)."""
    status = health_pb2.HealthCheckResponse
    for name in (grpc_service, ""):
        await servicer.set(name, status.SERVING if is_serving else status.NOT_SERVING)
