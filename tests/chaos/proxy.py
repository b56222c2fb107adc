"""TCP proxies on loopback: what they share, and one between a coordinator and a service, whose connections may fail.

The one between a coordinator and Redis is in ``redis_proxy.py``.
"""

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Self

from gsi.local.embedded_redis import free_port

CHUNK_BYTES = 65_536
TICK_SECONDS = 0.02
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: close() sends a reset


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]  # of a connection


class Fault(StrEnum):
    """What is wrong with every connection of a proxy."""

    NONE = "none"
    BLACK_HOLE = "black hole"  # connections are accepted, and nothing arrives
    RESET = "reset"  # connections end with a reset, new ones too
    DELAY = "delay"  # each answer arrives late


class LoopbackProxy(ABC):
    """Accepts connections on a free port of loopback, each for ``upstream`` (host:port). A subclass forwards them."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def stop(self) -> None:
        assert self._server is not None, "started before"
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @abstractmethod
    async def forward(self, client: Ends, upstream: Ends) -> None:
        """Forward one connection until one side ends it. Raises OSError or EOFError when a side is gone."""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: Ends) -> None:
        open_ends = [client]
        try:
            open_ends.append(await asyncio.open_connection(*self._upstream))
            await self.forward(*open_ends)
        except (OSError, EOFError):  # a side is not there: neither is the connection
            pass
        finally:
            for _, writer in open_ends:
                writer.close()


class Proxy(LoopbackProxy):
    """Forwards a service, and fails all connections alike."""

    def __init__(self, service: str, delay_seconds: float) -> None:
        super().__init__(service)
        self._delay_seconds = delay_seconds
        self.fault = Fault.NONE
        self._open: set[asyncio.StreamWriter] = set()

    def fail(self, fault: Fault) -> None:
        """Begin a fault, or end it with ``Fault.NONE``."""
        self.fault = fault
        if fault is Fault.RESET:
            for writer in list(self._open):
                reset(writer)

    async def forward(self, client: Ends, upstream: Ends) -> None:
        """Forward both ways."""
        if self.fault is Fault.RESET:
            reset(client[1])
            return
        self._open.add(client[1])
        ways = {asyncio.create_task(self._pump(client[0], upstream[1], is_answer=False))}
        ways.add(asyncio.create_task(self._pump(upstream[0], client[1], is_answer=True)))
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(client[1])
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        """Forward one way. What a black hole or a delay holds up arrives later, in order, as TCP would have it."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        reading = asyncio.create_task(self._read(reader, held, is_answer=is_answer))
        try:
            while True:
                due, chunk = await held.get()
                while self.fault is Fault.BLACK_HOLE or asyncio.get_running_loop().time() < due:
                    await asyncio.sleep(TICK_SECONDS)
                if not chunk:
                    return
                writer.write(chunk)
                await writer.drain()
        except OSError:  # the receiver has ended the connection
            return
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]], *, is_answer: bool
    ) -> None:
        """Put what arrives, with the time from which it may be forwarded; nothing, once the sender has ended."""
        while True:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            delay = self._delay_seconds if is_answer and self.fault is Fault.DELAY else 0.0
            held.put_nowait((asyncio.get_running_loop().time() + delay, chunk))
            if not chunk:
                return


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset, whatever is still under way."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
