"""What a process tells the standard health service: whether it is alive, and whether it takes calls.

| name of the service         | SERVING                                                                             |
|-----------------------------|-------------------------------------------------------------------------------------|
| ``liveness``                | from the start until the engine dies, also while the process loads or drains        |
| empty, and a gRPC service's | while calls are taken: from when everything is loaded and connected until SIGTERM   |

A client that watches the name of a gRPC service learns at once that it must send no more calls. Kubernetes probes ask
for the other two names.
"""

from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gsi.engines.base import wait_forever
from gsi.rpc.metrics import READY, short_name
from gsi.rpc.watch import wait_until_server_ends

log = structlog.get_logger()

LIVENESS = "liveness"


class Health:
    """The health of one process. From ``start`` on it is alive, and not ready until it is set ready."""

    def __init__(self, *services: str) -> None:
        self._servicer = health.aio.HealthServicer()
        self._services = services
        self._server: grpc.aio.Server | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let a server that takes calls answer for health as well."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self, address: str | None) -> None:
        """Be alive, and answer for health alone on host:port, in plain text: a probe of Kubernetes has no TLS.

        Without an address no port is opened. Raises OSError if the address cannot be bound.
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
            await self._servicer.set(name, _to_status(is_serving=is_ready))
        for service in self._services:
            READY.labels(short_name(service)).set(is_ready)

    async def set_alive(self, *, is_alive: bool) -> None:
        await self._servicer.set(LIVENESS, _to_status(is_serving=is_alive))

    async def wait_until_server_ends(self) -> str:
        """Return a reason once the server that ``start`` started has ended; wait forever if it started none."""
        if self._server is None:
            return await wait_forever()
        return await wait_until_server_ends(self._server)

    async def stop(self) -> None:
        """Stop answering on the address of ``start``."""
        if self._server is not None:
            await self._server.stop(grace=None)


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Let a server listen on host:port, in plain text without credentials; return the port. Raises OSError."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error


def _to_status(*, is_serving: bool) -> Any:
    statuses = health_pb2.HealthCheckResponse
    return statuses.SERVING if is_serving else statuses.NOT_SERVING
