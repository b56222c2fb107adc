"""Tasks that run beside a block of code, none of which can end unnoticed.

A lease keeper that dies silently would let two coordinators run one job. So a task that ends unexpectedly cancels its
block and the other tasks, and the block ends with that task's error.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context

Work = Callable[[], Awaitable[None]]


class BackgroundTaskError(Exception):
    """Our fault: a background task ended unexpectedly. The message names the task; ``__cause__`` is its error."""


class BackgroundTasks:
    """The tasks of one block."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self, name: str, work: Work, *, may_return: bool = False, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Call ``work``, and run it until the block ends, or until it returns if it ``may_return``."""
        task = self._group.create_task(_supervise(name, work, may_return=may_return), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Ask every task to end."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def background_tasks() -> AsyncIterator[BackgroundTasks]:
    """Cancel the tasks of this block when it ends, and wait until each task has cleaned up.

    Raises the block's own error, or the BackgroundTaskError that ended the block.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = BackgroundTasks(group)
            yield tasks
            tasks.cancel()
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first  # outside of the handler, which would add the group to the error's context


def is_cancelled() -> bool:
    """Return whether this task is to end. Otherwise a CancelledError comes from a library that leaked its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _supervise(name: str, work: Work, *, may_return: bool) -> None:
    """Do the work. Raises BackgroundTaskError if it fails, or if it returns and may not."""
    try:
        await work()
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        raise BackgroundTaskError(f"{name}: {type(error).__name__}: {error}") from error
    if not may_return:
        raise BackgroundTaskError(f"{name}: returned, though it must run as long as the process")
