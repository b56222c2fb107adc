"""Who is served: a service's limits on calls at once, in all and for one peer."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gsi.errors import RetryableError

RETRY_AFTER_SECONDS = 0.5  # about a step, in which a request finishes


class Admission:
    """Counts the calls of each peer, and refuses a call beyond a limit. A refused call is told when to come back.

    A peer is an address without its port: a limit for each connection would bound nobody, since connections are free.
    Coordinators behind one address share a limit, which is a large share of the service; the rest is for others.
    """

    def __init__(self, max_calls: int, max_peer_share: float) -> None:
        self._max_calls = max_calls
        self._max_peer_calls = math.ceil(max_calls * max_peer_share)
        self._calls: Counter[str] = Counter()
        self._is_draining = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def drain(self, grace_seconds: float) -> None:
        """Refuse new calls. Return when the calls in flight have ended, or after the grace period."""
        self._is_draining = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_idle.wait(), grace_seconds)

    @property
    def room(self) -> tuple[int, int]:
        """The calls in flight, and the most at once."""
        return self._calls.total(), self._max_calls

    @contextmanager
    def count(self, peer: str) -> Iterator[None]:
        """Count a call from its beginning to its end, also one that will be refused."""
        address = address_of(peer)
        self._calls[address] += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._calls[address] -= 1
            if not self._calls[address]:
                del self._calls[address]  # or the addresses of a day would fill the memory
            if not self._calls:
                self._is_idle.set()

    def refuse_if_full(self, peer: str) -> None:
        """Raise RetryableError if the server drains, or a limit is passed by the call of this moment, which counts."""
        if self._is_draining:
            raise RetryableError("the service is shutting down")
        if self._calls.total() > self._max_calls:
            raise RetryableError(
                f"{self._max_calls} requests are being served, the most at once",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if self._calls[address_of(peer)] > self._max_peer_calls:
            raise RetryableError(
                f"{self._max_peer_calls} requests of this address are being served, the most at once",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )


def address_of(peer: str) -> str:
    """Return gRPC's name of a peer, such as ``ipv4:10.0.0.7:52110``, without the port."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
