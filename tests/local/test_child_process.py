"""A child process of the local stack: its start, its crash, and the failure of its supervision."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gsi.cli import system
from gsi.cli.main import app
from gsi.errors import InternalError, MisconfiguredError
from gsi.local import child_process
from gsi.local.child_process import ChildProcess
from gsi.local.stack import Stack, running
from tests.conftest import wait_until
from tests.services.test_local_stack import children_of, is_alive

READY = """import sys, time; print('{"event": "ready"}', file=sys.stderr, flush=True)"""
WORD = """print('{"event": "word"}', file=sys.stderr, flush=True)"""
LONG_LINE = "print('x' * 100_000, file=sys.stderr, flush=True)"


def make_child(
    script: str, folder: Path, events: list[Mapping[str, Any]], fails_at: str = "", name: str = "child"
) -> ChildProcess:
    """Make a child; its report fails at one event."""

    def report(_: str, event: Mapping[str, Any]) -> None:
        if event["event"] == fails_at:
            raise ValueError("not for printing")
        events.append(event)

    return ChildProcess(name, [sys.executable, "-c", script], {}, folder / f"{name}.log", report)


async def test_a_line_that_is_too_long_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child lives on, and what it logs afterwards is read."""
    monkeypatch.setattr(child_process, "LINE_BYTES", 1000)
    events: list[Mapping[str, Any]] = []
    after = """print('{"event": "after"}', file=sys.stderr, flush=True); time.sleep(60)"""
    child = make_child(f"{READY}; {LONG_LINE}; time.sleep(0.2); {after}", tmp_path, events)
    await child.start()

    async def is_read() -> bool:
        return "after" in [event["event"] for event in events]

    await wait_until(is_read, "the next line is read")
    assert [event["event"] for event in events] == ["ready", "after"]
    await child.stop()


async def test_a_line_that_is_no_event_is_no_event(tmp_path: Path) -> None:
    """Libraries write what they like, also JSON."""
    events: list[Mapping[str, Any]] = []
    strange = """print('5', '[]', '{"level": "error"}', 'null', sep=chr(10), file=sys.stderr, flush=True)"""
    child = make_child(f"import sys; {strange}; {READY}; time.sleep(60)", tmp_path, events)
    await child.start()
    assert events == [{"event": "ready"}]
    await child.stop()


async def test_a_child_whose_supervision_fails_is_killed_and_its_watcher_gets_the_error(tmp_path: Path) -> None:
    """It would block in the middle of a line, and nothing would start it again or stop it."""
    child = make_child(f"{READY}; time.sleep(0.2); {WORD}; time.sleep(60)", tmp_path, [], fails_at="word")
    await child.start()
    pid = child.pid
    with pytest.raises(InternalError, match=r"child: it is killed, because its supervision failed.*not for printing"):
        await asyncio.wait_for(child.wait_until_unsupervised(), 30)
    assert not is_alive(pid)
    await child.stop()


async def test_a_stack_whose_supervision_fails_ends_with_the_error_and_leaves_no_child(tmp_path: Path) -> None:
    """Its block is cancelled, and the other children are asked to stop, as at any end."""
    polite = (
        f"import signal, sys, time; signal.signal(15, lambda *_: sys.exit('told to stop')); {READY}; time.sleep(60)"
    )
    good = make_child(polite, tmp_path, [])
    bad = make_child(f"{READY}; time.sleep(0.5); {WORD}; time.sleep(60)", tmp_path, [], fails_at="word", name="bad")
    pids: list[int] = []

    async def run() -> None:
        async with running([[good], [bad]], [[bad], [good]]):
            pids.extend((good.pid, bad.pid))
            await asyncio.sleep(60)

    with pytest.raises(InternalError, match="bad: it is killed"):
        await asyncio.wait_for(run(), 30)
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert (tmp_path / "child.log").read_text().splitlines()[-1] == "told to stop"


async def test_an_error_of_the_block_is_raised_as_it_is(tmp_path: Path) -> None:
    """And the children stop."""
    child = make_child(f"{READY}; time.sleep(60)", tmp_path, [])

    async def run() -> None:
        async with running([[child]], [[child]]):
            raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await run()
    assert not is_alive(child.pid)


async def test_a_child_that_ends_before_it_is_ready_is_named_with_its_last_words(tmp_path: Path) -> None:
    """It is not started again: it would not become ready."""
    child = make_child("import sys; sys.exit('no model')", tmp_path, [])
    with pytest.raises(MisconfiguredError, match="child did not start: no model"):
        await child.start()


async def test_a_child_that_crashes_after_it_was_ready_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause that grows up to a limit. Each end is reported as an error."""
    monkeypatch.setattr(child_process, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(child_process, "MAX_RESTART_SECONDS", 0.04)
    events: list[Mapping[str, Any]] = []
    child = make_child(f"{READY}; sys.exit(3)", tmp_path, events)
    await child.start()

    async def is_back() -> bool:
        return [event["event"] for event in events].count("ready") >= 5

    await wait_until(is_back, "it is ready again and again")
    await child.stop()
    ends = [event["event"] for event in events if event.get("level") == "error"]
    assert ends[:4] == [f"ended with code 3; starting it again in {pause} s" for pause in (0.01, 0.02, 0.04, 0.04)]


async def test_a_child_that_ran_long_enough_is_started_again_as_soon_as_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crashes that are far apart have nothing to do with each other."""
    monkeypatch.setattr(child_process, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(child_process, "STABLE_SECONDS", 0.0)
    events: list[Mapping[str, Any]] = []
    child = make_child(f"{READY}; sys.exit(3)", tmp_path, events)
    await child.start()

    async def has_ended_thrice() -> bool:
        return [event.get("level") for event in events].count("error") >= 3

    await wait_until(has_ended_thrice, "it has ended three times")
    await child.stop()
    assert {event["event"] for event in events} == {"ready", "ended with code 3; starting it again in 0.01 s"}


async def test_a_child_that_is_stopped_in_the_pause_is_not_started_again(tmp_path: Path) -> None:
    """Nobody would stop it."""
    events: list[Mapping[str, Any]] = []
    child = make_child(f"{READY}; sys.exit(3)", tmp_path, events)
    await child.start()

    async def pauses() -> bool:
        return any(event.get("level") == "error" for event in events)

    await wait_until(pauses, "it has ended")
    await asyncio.wait_for(child.stop(), child_process.STOP_SECONDS / 2)
    assert [event["event"] for event in events].count("ready") == 1


@pytest.mark.parametrize("turns", [1, 2, 3])  # of the event loop: before, while and after the process is made
async def test_a_child_that_is_stopped_before_it_is_ready_does_not_run_on(tmp_path: Path, turns: int) -> None:
    """Another child of the stack failed to start in this moment."""
    before = set(children_of(os.getpid()))
    child = make_child(f"{READY}; time.sleep(60)", tmp_path, [])
    starting = asyncio.create_task(child.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    await child.stop()
    with pytest.raises(MisconfiguredError, match="did not start"):
        await starting
    assert set(children_of(os.getpid())) <= before


def test_gsi_up_ends_with_an_error_when_a_supervision_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what failed, exits non-zero, and says nowhere that it stopped as it was told."""
    child = make_child(f"{READY}; time.sleep(0.5); {WORD}; time.sleep(60)", tmp_path, [], fails_at="word")

    @asynccontextmanager
    async def cheap_stack(*_: Any, **__: Any) -> AsyncIterator[Stack]:
        async with running([[child]], [[child]]):
            yield Stack("redis://127.0.0.1:1", child, None, {}, {}, {})

    monkeypatch.setattr(system, "local_stack", cheap_stack)
    ran = CliRunner().invoke(app, ["up"])
    assert ran.exit_code == 1
    assert "child: it is killed, because its supervision failed: ValueError('not for printing')" in ran.stderr
    assert "stopped" not in ran.stderr
    assert not is_alive(child.pid)
