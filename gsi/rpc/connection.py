"""The connection to one service: its channel, its stubs, its certificates."""

import asyncio
import json
import time
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from gsi.rpc.credentials import client_credentials
from gsi.runtime.tls import CertificateFiles, Certificates

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 64 * 2**20  # gRPC's default is 4 MiB, about a million token ids
KEEPALIVE_MS = 20_000
RESOLVE_SECONDS = 5.0
CONNECTING = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)

# A ping finds out that the other side has gone without closing the connection, whether the connection is in use or
# idle. Without data gRPC would stop its pings after a few, and a call may compute for minutes before it answers.
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
    ("grpc.max_reconnect_backoff_ms", 2_000),  # most restarts are over before the default of two minutes
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),  # the least time between two look-ups of the name
    *KEEPALIVE_OPTIONS,
)


def channel_options(grpc_service: str) -> list[tuple[str, int | str]]:
    """Return the options of a channel to all replicas of a service. Calls take turns among the ready replicas.

    gRPC connects to every address of the name (it reads host:port as dns:///host:port) and watches the health of each
    replica. A replica that is loading or draining gets no new calls.
    """
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": grpc_service}}
    return [*CHANNEL_OPTIONS, ("grpc.service_config", json.dumps(config))]


class ServiceConnection:
    """The channel to the replicas of one service, with its stubs; without ``files``, in plain text.

    After a change of the certificate files the next call opens a new channel. Calls on the old channel have
    ``grace_seconds`` to end. ``authority``: host:port as callers know the service, if the address is that of one of its
    replicas; TLS verifies this host.
    """

    def __init__(
        self,
        address: str,
        grpc_service: str,
        stub_kind: Any,
        files: CertificateFiles | None,
        grace_seconds: float,
        authority: str | None = None,
    ) -> None:
        self._address = address
        self._options = channel_options(grpc_service)
        if authority:
            self._options.append(("grpc.default_authority", authority))
        self._stub_kind = stub_kind
        self._files = files
        self._grace_seconds = grace_seconds
        self._closing: set[asyncio.Task[None]] = set()
        self._open(files.current() if files else None)

    @property
    def stub(self) -> Any:
        """The stub of the service."""
        self.reopen_if_changed()
        return self._stub

    @property
    def health(self) -> Any:
        """The stub of the standard health service."""
        self.reopen_if_changed()
        return self._health

    @property
    def is_ready(self) -> bool:
        """Whether a replica takes calls, as far as its last message tells; a new channel begins to connect."""
        return bool(self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY)

    @property
    def is_connecting(self) -> bool:
        """Whether nothing is known against the replica: a connection has reached its age, and the next one is made."""
        return bool(self._channel.get_state(try_to_connect=True) in CONNECTING)

    def reopen_if_changed(self) -> None:
        """Open a new channel if the certificate files have changed."""
        newest = self._files.current() if self._files else None
        if newest is not self._certificates:
            self._reopen(newest)

    def resolve_again(self) -> None:
        """Look up the name again by opening a new channel, at most once in ``RESOLVE_SECONDS``.

        For a service without a ready replica. gRPC itself looks up a name without addresses less and less often, in
        the end every two minutes, and would find a replica with a new address as late as that.
        """
        if time.monotonic() - self._opened_at >= RESOLVE_SECONDS:
            self._reopen(self._certificates)

    async def finish(self) -> None:
        """Close the channel once its calls have ended, after ``grace_seconds`` at the latest."""
        await self._channel.close(self._grace_seconds)

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

    def _reopen(self, certificates: Certificates | None) -> None:
        closing = asyncio.create_task(self._channel.close(self._grace_seconds))
        self._closing.add(closing)
        closing.add_done_callback(self._forget)
        self._open(certificates)

    def _forget(self, closing: asyncio.Task[None]) -> None:
        """Drop the task that closed an old channel. A failure is logged: it costs a channel, not a call."""
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()):
            log.error("an old channel could not be closed", address=self._address, error=repr(error))
