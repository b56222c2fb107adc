"""A client of HTTP/1.1 that costs little itself, so that what is measured is the server.

It knows what the gateway's answers have: a length, or chunks of an event stream. Requests are bytes, made once.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

DATA, DONE = b"data: ", b"[DONE]"


class AnswerError(Exception):
    """An answer whose status is not 200."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event of a stream, and when it came, in milliseconds since 1970."""

    event: Mapping[str, Any]
    at_ms: float


def write_request(url: str, path: str, body: Mapping[str, Any]) -> bytes:
    """Return a POST request as bytes."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Connection:
    """A connection that is used again for each request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Self]:
        """Connect while the block runs."""
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ask(self, request: bytes) -> bytes:
        """Return the body of an answer. Raises AnswerError."""
        self._writer.write(request)
        headers = await self._read_head()
        return await self._reader.readexactly(int(headers[b"content-length"]))

    async def stream(self, request: bytes) -> AsyncIterator[Arrival]:
        """Yield the events of a stream as they come. Raises AnswerError."""
        self._writer.write(request)
        await self._read_head()
        while length := int(await self._reader.readline(), 16):
            chunk = await self._reader.readexactly(length + 2)
            at_ms = 1000 * time.time()
            for line in chunk.splitlines():
                if line.startswith(DATA) and not line.endswith(DONE):
                    yield Arrival(json.loads(line.removeprefix(DATA)), at_ms)
        await self._reader.readline()

    async def _read_head(self) -> dict[bytes, bytes]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if b" 200 " not in status:
            length = int(headers.get(b"content-length", b"0"))
            raise AnswerError(f"{status.decode()}: {(await self._reader.readexactly(length)).decode()}")
        return headers
