"""Candidates and scores that finish within milliseconds travel in one message, and are scored in one pass.

A candidate that travels alone costs the coordinator 0.2 ms of its processor: it is a message from the draft, one to
the target and one to the PRM, and an answer of each. So they are grouped where they are sent. A service that was busy
reads what came meanwhile together: by then each message has had its cost, but a pass for each would cost another.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

# The longest that an item waits for others. An item that nothing preceded within this time does not wait, and neither
# does the last one.
GROUP_SECONDS = 0.002


async def group(batches: AsyncGenerator[Sequence[T], None]) -> AsyncGenerator[list[T], None]:
    """Yield the items of all batches in order: the first at once, then those of each ``GROUP_SECONDS`` together.

    The last ones leave when ``batches`` ends. Raises what it raises; closing the groups closes it.
    """
    async with _reading(batches) as inbox:
        while together := await inbox.take():
            yield together
            await inbox.wait_for_end(GROUP_SECONDS)


@asynccontextmanager
async def read_ahead(
    batches: AsyncGenerator[Sequence[T], None],
) -> AsyncIterator[AsyncGenerator[list[T], None]]:
    """Read ``batches`` from now on; give all items that came while the reader was busy together, in order.

    The reader gets what ``batches`` raises behind what came before. Leaving closes ``batches``.
    """
    async with _reading(batches) as inbox:

        async def take_all() -> AsyncGenerator[list[T], None]:
            while together := await inbox.take():
                yield together

        yield take_all()


class _Inbox(Generic[T]):
    """What has come of ``batches`` and was not taken yet."""

    def __init__(self, batches: AsyncGenerator[Sequence[T], None]) -> None:
        self._waiting: list[T] = []
        self._has_news = asyncio.Event()  # something has come, or nothing more will
        self._reading = asyncio.create_task(self._read(batches))
        self._reading.add_done_callback(lambda _: self._has_news.set())

    async def _read(self, batches: AsyncGenerator[Sequence[T], None]) -> None:
        async with aclosing(batches):
            async for batch in batches:
                self._waiting.extend(batch)
                self._has_news.set()

    async def take(self) -> list[T]:
        """Return what has come, waiting for the first item; nothing at the end. Raises what ``batches`` raises."""
        while not self._waiting and not self._reading.done():
            self._has_news.clear()
            await self._has_news.wait()
        together, self._waiting = self._waiting, []
        if not together:
            self._reading.result()
        return together

    async def wait_for_end(self, seconds: float) -> None:
        """Wait for the end of ``batches``, at most so long."""
        await asyncio.wait({self._reading}, timeout=seconds)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@asynccontextmanager
async def _reading(batches: AsyncGenerator[Sequence[T], None]) -> AsyncIterator[_Inbox[T]]:
    inbox = _Inbox(batches)
    try:
        yield inbox
    finally:
        await inbox.close()
