"""What a process says of itself by the standard health service: does it live, and does it take calls?

| name                            | SERVING                                                                            |
|---------------------------------|------------------------------------------------------------------------------------|
| ``liveness``                    | from the process's start until its engine has died; loading or draining, it lives  |
| the empty one, a gRPC service's | while calls are taken: from when all is loaded and connected until SIGTERM         |

Who watches a service's name learns at once when no more calls are to be sent; Kubernetes asks for the other two.
"""

from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gsi.rpc.metrics import READY, short_name

log = structlog.get_logger()

LIVENESS = "liveness"


class Health:
    """One process's health: alive, and not ready, as soon as it listens."""

    def __init__(self, *services: str) -> None:
        self._servicer = health.aio.HealthServicer()
        self._services = services
        self._server: grpc.aio.Server | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let a server of calls answer for its health, too."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self, address: str | None) -> None:
        """Be alive, and answer on host:port in plain text and nothing else there: a probe of Kubernetes has no TLS.

        Raises OSError if the address cannot be bound. Nobody is answered there without an address.
        """
        await self.set_alive(is_alive=True)
        await self.set_ready(is_ready=False)
        if address is None:
            return
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self.add_to(self._server)
        port = bind(self._server, address, None)
        await self._server.start()
        log.info("answers health checks", address=f"{address.rpartition(':')[0]}:{port}")

    async def set_ready(self, *, is_ready: bool) -> None:
        for name in ("", *self._services):
            await self._servicer.set(name, _status(is_serving=is_ready))
        for service in self._services:
            READY.labels(short_name(service)).set(is_ready)

    async def set_alive(self, *, is_alive: bool) -> None:
        await self._servicer.set(LIVENESS, _status(is_serving=is_alive))

    async def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            await self._server.stop(grace=None)


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Return the port that the server now listens on, in plain text without credentials. Raises OSError."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error


def _status(*, is_serving: bool) -> Any:
    statuses = health_pb2.HealthCheckResponse
    return statuses.SERVING if is_serving else statuses.NOT_SERVING
