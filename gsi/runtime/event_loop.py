"""The event loop of a process: uvloop where it is installed (the extra ``speed``), else asyncio's own."""

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run the main coroutine of a process to its end, as ``asyncio.run`` does; return what it returns."""
    with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
        return runner.run(main)


def _find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop; None: asyncio's own."""
    if find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = resolve_name("uvloop:new_event_loop")
    return factory
