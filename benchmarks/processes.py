"""Processes that a benchmark starts beside the local stack."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gsi.local.child_process import ChildProcess


@asynccontextmanager
async def running_process(process: ChildProcess) -> AsyncIterator[None]:
    """Start a process, and stop it when the block ends, also if it did not become ready."""
    try:
        await process.start()
        yield
    finally:
        await process.stop()


def ignore(process: str, event: Mapping[str, Any]) -> None:
    """Take a process's event and show nothing: its log is in a file."""
