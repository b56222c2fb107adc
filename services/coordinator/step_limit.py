"""How many steps run at once: fewer when a service is full, more again as steps succeed.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as in TCP. The limit counts steps, not calls: a step
makes calls to several services at once, and with a limit on each service two steps could wait for each other for ever.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.coordinator import metrics

DECREASE = 0.5
COOL_DOWN_SECONDS = 1.0  # refusals within this time count as one


class StepLimit:
    """Slots for steps, between 1 and ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._in_use = 0
        self._room = asyncio.Event()  # set whenever a slot may be free: waiting steps look again
        self._slowed_at = float("-inf")
        metrics.STEP_LIMIT.set(most)

    @property
    def limit(self) -> int:
        """Return how many steps may run at once at this moment."""
        return int(self._limit)

    @property
    def is_whole(self) -> bool:
        """Whether no service was full of late: all slots may be used."""
        return self.limit == int(self._most)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it in this block; a block that succeeds raises the limit."""
        while self._in_use >= self.limit:
            self._room.clear()
            await self._room.wait()
        self._in_use += 1
        try:
            yield
            self._set(self._limit + 1 / self._limit)
        finally:
            self._in_use -= 1
            self._room.set()

    def slow_down(self) -> None:
        """Halve the limit because a service is full."""
        now = asyncio.get_running_loop().time()
        if now - self._slowed_at >= COOL_DOWN_SECONDS:
            self._slowed_at = now
            self._set(self._limit * DECREASE)

    def _set(self, limit: float) -> None:
        self._limit = min(float(self._most), max(1.0, limit))
        metrics.STEP_LIMIT.set(self.limit)
