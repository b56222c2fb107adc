"""How a model service lives: listen, load, serve, drain, stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic

import grpc
import structlog
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from gsi.engines.base import E
from gsi.errors import InternalError, RetryableError
from gsi.limits import MAX_REQUEST_BYTES
from gsi.rpc import metrics
from gsi.rpc.admission import Admission
from gsi.rpc.callers import Callers
from gsi.rpc.connection import KEEPALIVE_MS, KEEPALIVE_OPTIONS, MAX_MESSAGE_BYTES
from gsi.rpc.credentials import server_credentials
from gsi.rpc.health import Health, bind
from gsi.rpc.interceptors import EdgeInterceptor
from gsi.rpc.watch import wait_until_server_ends, watch_until
from gsi.runtime.settings import ServiceSettings

log = structlog.get_logger()

DEAD_GRACE_SECONDS = 1.0  # a call to a dead engine fails at once; its answer needs a moment to leave
HEALTH_STREAMS = 8  # of one connection: a watch on the health of each service, and checks
LONGEST_CALL_SECONDS = 3660  # a bit more than the longest time-out that a coordinator can be given

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second process on the port fails at its start, instead of sharing the calls
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),  # else the server refuses the clients' pings
    *KEEPALIVE_OPTIONS,
)


def server_options(max_connection_age_seconds: float, max_concurrent_rpcs: int) -> list[tuple[str, int]]:
    """Return the options of a server.

    A connection past its age takes no new calls and finishes its calls in flight. Its streams are twice the calls that
    the service serves: a call beyond the service's limit is to be told so, and not to wait in its client.
    """
    return [
        *SERVER_OPTIONS,
        ("grpc.max_connection_age_ms", int(max_connection_age_seconds * 1000)),  # gRPC adds or takes a tenth
        ("grpc.max_connection_age_grace_ms", LONGEST_CALL_SECONDS * 1000),
        ("grpc.max_concurrent_streams", 2 * max_concurrent_rpcs + HEALTH_STREAMS),
    ]


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

    The service is ready from the return of ``load`` until ``stop`` is set or the engine dies. After ``stop`` it takes
    calls for ``drain_pause_seconds`` more, because clients need time to learn that it is not ready.
    Raises OSError if an address cannot be bound, MisconfiguredError if the certificates cannot be used, InternalError
    if the engine or a gRPC server ends before ``stop`` is set, and whatever ``load`` raises.
    """
    engine: Loadable[E] = Loadable()
    grace_seconds = settings.grace_seconds
    metrics.observe_start(grpc_service, settings.max_concurrent_rpcs)
    admission = Admission(settings.max_concurrent_rpcs, settings.max_peer_share)
    callers = Callers(settings.allowed_callers, settings.variable("tls_callers"))
    edge, state = EdgeInterceptor(admission, callers, settings.max_call_seconds), Health(grpc_service)
    server, port = _make_server(grpc_service, settings, edge)
    add_servicer(engine, server)
    state.add_to(server)
    await state.start(settings.health_listen)
    await server.start()
    try:
        log.info("loading", model=settings.model, engine=settings.engine)
        engine.set(await load())
        metrics.observe_model(grpc_service, engine.get().info)
        edge.introduce(engine.get().info)
        await state.set_ready(is_ready=True)
        log.info("ready", address=f"{settings.listen.rpartition(':')[0]}:{port}", model=settings.model)
        parts = (engine.get().wait_until_dead(), wait_until_server_ends(server), state.wait_until_server_ends())
        if reason := await watch_until(stop.wait(), *parts):
            raise InternalError(reason)
        await state.set_ready(is_ready=False)
        log.info("draining", pause_seconds=settings.drain_pause_seconds, grace_seconds=grace_seconds)
        await asyncio.sleep(settings.drain_pause_seconds)
    except InternalError:
        grace_seconds = min(grace_seconds, DEAD_GRACE_SECONDS)
        await state.set_alive(is_alive=False)
        raise
    finally:
        await state.set_ready(is_ready=False)
        await admission.drain(grace_seconds)  # the server still answers, so that health can say NOT_SERVING
        await server.stop(grace=None)
        await state.stop()
        engine.close()
        log.info("stopped")


def _make_server(grpc_service: str, settings: ServiceSettings, edge: EdgeInterceptor) -> tuple[grpc.aio.Server, int]:
    """Return a server, and the port it is bound to. It has not been started."""
    options = server_options(settings.max_connection_age_seconds, settings.max_concurrent_rpcs)
    server = grpc.aio.server(interceptors=[edge], options=options)
    if settings.reflection:
        reflection.enable_server_reflection((grpc_service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    files = settings.certificate_files()
    return server, bind(server, settings.listen, server_credentials(files) if files else None)
