"""A child process of the local stack: its start, its crash, and the failure of its supervision."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gsi.errors import MisconfiguredError
from gsi.local import child_process
from gsi.local.child_process import ChildProcess
from tests.conftest import wait_until
from tests.services.test_local_stack import is_alive

READY = """import sys, time; print('{"event": "ready"}', file=sys.stderr, flush=True)"""
LONG_LINE = "sys.stderr.write('x' * 100_000); sys.stderr.flush(); time.sleep(60)"


def make_child(script: str, folder: Path, events: list[Mapping[str, Any]]) -> ChildProcess:
    command = [sys.executable, "-c", script]
    return ChildProcess("child", command, {}, folder / "child.log", lambda _, event: events.append(event))


async def test_a_child_whose_log_cannot_be_read_does_not_run_on_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would block in the middle of a line, and nothing would start it again or stop it."""
    monkeypatch.setattr(child_process, "LINE_BYTES", 1000)
    events: list[Mapping[str, Any]] = []
    child = make_child(f"{READY}; time.sleep(1); {LONG_LINE}", tmp_path, events)
    await child.start()
    pid = child.pid

    async def is_gone() -> bool:
        return not is_alive(pid)

    await wait_until(is_gone, "the child is killed")
    await wait_until(lambda: _is_reported(events), "the failure is reported")
    await child.stop()


async def _is_reported(events: list[Mapping[str, Any]]) -> bool:
    return any("its supervision failed" in event["event"] and event["level"] == "error" for event in events)


async def test_a_child_that_ends_before_it_is_ready_is_named_with_its_last_words(tmp_path: Path) -> None:
    """It is not started again: it would not become ready."""
    child = make_child("import sys; sys.exit('no model')", tmp_path, [])
    with pytest.raises(MisconfiguredError, match="child did not start: no model"):
        await child.start()


async def test_a_child_that_crashes_after_it_was_ready_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is reported as an error."""
    monkeypatch.setattr(child_process, "RESTART_SECONDS", 0.0)
    events: list[Mapping[str, Any]] = []
    child = make_child(f"{READY}; time.sleep(0.2); sys.exit(3)", tmp_path, events)
    await child.start()

    async def is_back() -> bool:
        return [event["event"] for event in events].count("ready") >= 2

    await wait_until(is_back, "it is ready again")
    assert "ended with code 3; starting it again" in [event["event"] for event in events]
    await child.stop()
