"""The connection to one service: its channel, its stubs, its certificates."""

import asyncio
import json
import time
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from gsi.rpc.credentials import client_credentials
from gsi.runtime.tls import CertificateFiles, Certificates

MAX_MESSAGE_BYTES = 64 * 2**20  # gRPC's default of 4 MiB is a prefix of a million token ids
KEEPALIVE_MS = 20_000
LOOK_UP_SECONDS = 5.0

# A connection whose other side is gone without a word is found out by a ping, in use or not. gRPC's own limit on pings
# without data would stop them in a call that computes for long.
KEEPALIVE_OPTIONS = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),  # the default of two minutes outlasts most restarts
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),  # a name is looked up when a connection ends, at most so often
    *KEEPALIVE_OPTIONS,
)


def channel_options(grpc_service: str) -> list[tuple[str, int | str]]:
    """Return the options of a channel to all replicas of a service: calls take turns among those that say SERVING.

    gRPC connects to every address that the name has (host:port is dns:///host:port to it) and watches each one's
    health, so that a draining replica gets no new call, and one that is loading none yet.
    """
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": grpc_service}}
    return [*CHANNEL_OPTIONS, ("grpc.service_config", json.dumps(config))]


class ServiceConnection:
    """Channel and stubs of one service's replicas, whose name ``address`` has; in plain text without ``files``.

    Once the files have changed, the next call opens a new channel; calls on the old one have ``grace_seconds`` to end.
    """

    def __init__(
        self, address: str, grpc_service: str, stub_kind: Any, files: CertificateFiles | None, grace_seconds: float
    ) -> None:
        self._address = address
        self._options = channel_options(grpc_service)
        self._stub_kind = stub_kind
        self._files = files
        self._grace_seconds = grace_seconds
        self._closing: set[asyncio.Task[None]] = set()
        self._open(files.current() if files else None)

    @property
    def stub(self) -> Any:
        """The service's stub."""
        self._renew()
        return self._stub

    @property
    def health(self) -> Any:
        """The stub of the standard health service."""
        self._renew()
        return self._health

    def look_up_anew(self) -> None:
        """Look up the name now, by way of a new channel, for a service that nobody serves; at most so often.

        gRPC asks for a name that has no address ever more rarely, in the end every two minutes, and a replica that
        comes back with another address would be left waiting for that.
        """
        if time.monotonic() - self._opened_at >= LOOK_UP_SECONDS:
            self._reopen(self._certificates)

    async def close(self) -> None:
        for task in self._closing:
            task.cancel()
        await self._channel.close()

    def _open(self, certificates: Certificates | None) -> None:
        self._opened_at = time.monotonic()
        self._certificates = certificates
        if certificates is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=self._options)
        else:
            credentials = client_credentials(certificates)
            self._channel = grpc.aio.secure_channel(self._address, credentials, options=self._options)
        self._stub = self._stub_kind(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def _renew(self) -> None:
        """Open a new channel if the certificates have changed."""
        newest = self._files.current() if self._files else None
        if newest is not self._certificates:
            self._reopen(newest)

    def _reopen(self, certificates: Certificates | None) -> None:
        closing = asyncio.create_task(self._channel.close(self._grace_seconds))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._open(certificates)
