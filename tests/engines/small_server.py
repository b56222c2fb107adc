"""A small HTTP server for tests of what asks one: real sockets, answers in JSON or as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
Events = list[Body]  # server-sent events
Answer = tuple[int, Body | Events]
Handler = Callable[[Body], Awaitable[Answer]]

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass
class SmallServer:
    """Answers by path. It notes what it was asked, and which requests were given up before their answer."""

    routes: dict[str, Handler]
    asked: list[tuple[str, Body]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    drops: int = 0  # so many of the next requests lose their connection
    retry_after: str = ""
    url: str = ""
    connections: set["asyncio.Task[None]"] = field(default_factory=set)

    def bodies(self, path: str) -> list[Body]:
        return [body for asked, body in self.asked if asked == path]

    @asynccontextmanager
    async def listen(self, port: int = 0) -> AsyncIterator["SmallServer"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for connection in self.connections:
                connection.cancel()
            await asyncio.gather(*self.connections, return_exceptions=True)
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the next request of a connection; return whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = head[0].split()[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        self.asked.append((path, body))
        self.headers.append(headers)
        if self.drops:
            self.drops -= 1
            return False
        answer = asyncio.create_task(self._handle(path, body))
        gone = asyncio.create_task(reader.read(1))  # a client sends no second request before its answer
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.given_up.append(path)
            answer.cancel()
            return False
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await self._write(writer, *answer.result())
        return True

    async def _handle(self, path: str, body: Body) -> Answer:
        if path not in self.routes:
            return 404, {"detail": "Not Found"}
        return await self.routes[path](body)

    async def _write(self, writer: asyncio.StreamWriter, status: int, body: Body | Events) -> None:
        is_stream = isinstance(body, list)
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in body) if is_stream else json.dumps(body)
        kind = "text/event-stream" if is_stream else "application/json"
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}", f"Content-Type: {kind}"]
        lines += [
            f"Content-Length: {len(text.encode())}",
            *([f"Retry-After: {self.retry_after}"] * bool(self.retry_after)),
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n" + text).encode())
        await writer.drain()
