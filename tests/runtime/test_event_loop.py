"""Every process takes the faster event loop where it is installed."""

import asyncio
import importlib.machinery
import sys
import types

import pytest

from gsi.runtime.event_loop import run


async def loop_of_main() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_uvloop_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here one stands for it that makes loops of asyncio."""
    made: list[asyncio.AbstractEventLoop] = []

    def new_event_loop() -> asyncio.AbstractEventLoop:
        made.append(asyncio.SelectorEventLoop())
        return made[-1]

    module = types.ModuleType("uvloop")
    module.__spec__ = importlib.machinery.ModuleSpec("uvloop", None)
    monkeypatch.setattr(module, "new_event_loop", new_event_loop, raising=False)
    monkeypatch.setitem(sys.modules, "uvloop", module)
    assert [run(loop_of_main())] == made
    assert made[0].is_closed()


def test_asyncio_is_used_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing needs to be installed."""
    monkeypatch.setattr("gsi.runtime.event_loop.find_spec", lambda name: None)
    assert type(run(loop_of_main())).__module__.startswith("asyncio")
