"""Watching the parts that a process cannot do without. A part that ends unseen would leave a process that only waits.

A part is a coroutine that returns a reason once the part has ended, and never returns while the part works.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc

from gsi.errors import InternalError


async def watch_until(until: Coroutine[Any, Any, object], *parts: Coroutine[Any, Any, str]) -> str | None:
    """Wait for ``until`` and return None, or return the reason of a part that has ended before.

    Raises InternalError if a part fails: whether that part still works is unknown then.
    """
    waiting = asyncio.create_task(until)
    watches = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait({waiting, *watches}, return_when=asyncio.FIRST_COMPLETED)
        ended = [watch for watch in watches if watch.done()]
        for watch in ended:
            if error := watch.exception():
                raise InternalError(f"a part of this process cannot be watched any more: {error!r}") from error
        return None if waiting.done() else ended[0].result()
    finally:
        for task in (waiting, *watches):
            task.cancel()
        await asyncio.gather(waiting, *watches, return_exceptions=True)


async def wait_until_server_ends(server: grpc.aio.Server) -> str:
    """Return a reason once a server that was started has ended; wait for as long as it serves."""
    await asyncio.shield(server.wait_for_termination())  # cancelling it would break the server's own stop
    return "the gRPC server has ended by itself"
