"""Say why a wait may be long: nothing hangs in silence."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from gsi.jobs.connection import RedisError

FIRST_LOOK_SECONDS = 0.5
SECOND_LOOK_SECONDS = 1.75
LOOK_SECONDS = 2.5

Notify = Callable[[str], None]


def log_notice(notice: str) -> None:
    """Log a notice as a warning of the logger ``gsi``; a program without logging gets it on standard error."""
    logging.getLogger("gsi").warning(notice)


class Notices:
    """Looks for an obstacle while anybody waits, and tells each once until it is gone."""

    def __init__(self, look: Callable[[], Awaitable[str]], notify: Notify) -> None:
        self._look = look
        self._notify = notify
        self._told = ""
        self._num_waiting = 0
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Look for obstacles while this is open."""
        self._num_waiting += 1
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._num_waiting -= 1
            if not self._num_waiting:
                self._task.cancel()
                self._task = None

    async def look(self) -> None:
        """Look for an obstacle now, and tell it unless it was told last.

        Raises nothing: of a server that is away the wait itself tells, and a user of few rights may not look.
        """
        try:
            found = await self._look()
        except RedisError:
            return
        if found and found != self._told:
            self._notify(found)
        self._told = found

    async def _watch(self) -> None:
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        await self.look()
        await asyncio.sleep(SECOND_LOOK_SECONDS - FIRST_LOOK_SECONDS)
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)
