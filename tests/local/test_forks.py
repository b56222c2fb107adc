"""Forks of a process that has imported what they need."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gsi.errors import InternalError
from gsi.local import child_process
from gsi.local.forks import Fork, ForkedChild, ForkServer
from gsi.local.stack import ROLES, may_fork, service_environments
from gsi.runtime.installation import SHIPPED_MODELS
from tests.conftest import wait_until
from tests.services.test_local_stack import children_of, is_alive

PROGRAM = "tests.local.forked_program"


@pytest_asyncio.fixture
async def forks(tmp_path: Path) -> AsyncIterator[ForkServer]:
    async with ForkServer(["colorsys", "no.such.module"], tmp_path / "server.log") as server:
        yield server


async def first_line(fork: Fork) -> Mapping[str, Any]:
    event = child_process.read_json_line(await fork.stderr.readline())
    assert event is not None
    return event


async def test_a_fork_is_like_a_process_of_its_own(forks: ForkServer) -> None:
    """It runs the module as main, in a session of its own, with the environment that it is given and no other."""
    fork = await forks.run(PROGRAM, {"TOLD": "end"})
    assert await first_line(fork) == {
        "event": "ready",
        "name": "__main__",
        "arguments": [],
        "told": "end",
        "home": None,
        "session": fork.pid,
        "has_preloaded": True,
    }
    await fork.communicate()
    assert fork.returncode == 3
    assert not is_alive(fork.pid)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_a_fork_that_is_killed_says_by_which_signal(forks: ForkServer, signum: signal.Signals) -> None:
    """As a process of one's own does."""
    fork, other = await forks.run(PROGRAM, {"TOLD": "wait"}), await forks.run(PROGRAM, {"TOLD": "wait"})
    await first_line(other)
    fork.terminate() if signum is signal.SIGTERM else fork.kill()
    assert await fork.wait() == -signum
    assert is_alive(other.pid)
    other.kill()
    await asyncio.gather(fork.communicate(), other.communicate())


async def test_a_fork_looks_like_its_command(forks: ForkServer) -> None:
    """Operators look for processes by name."""
    fork = await forks.run(PROGRAM, {"TOLD": "wait"})
    await first_line(fork)
    assert Path(f"/proc/{fork.pid}/cmdline").read_text().rstrip("\0").endswith(f"python -m {PROGRAM}")
    fork.kill()
    await fork.communicate()


async def test_a_fork_that_ends_is_started_again_and_so_is_the_server(
    tmp_path: Path, forks: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server is killed, its forks end, and the next fork is one of a new server."""
    monkeypatch.setattr(child_process, "RESTART_SECONDS", 0.01)
    events: list[Mapping[str, Any]] = []
    others = set(children_of(os.getpid()))
    environment = {"TOLD": "wait"}
    child = ForkedChild("child", PROGRAM, environment, tmp_path / "child.log", lambda _, e: events.append(e), forks)
    await child.start()
    (server,) = set(children_of(os.getpid())) - others
    before = child.pid
    os.kill(server, signal.SIGKILL)

    async def is_back() -> bool:
        return [event["event"] for event in events].count("ready") == 2

    await wait_until(is_back, "another fork is ready")
    assert not is_alive(before)
    assert server not in children_of(os.getpid())
    await child.stop()
    assert not is_alive(child.pid)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("setting", "value"), [("ENGINE", "vllm"), ("DEVICE", "cuda:0")])
def test_vllm_and_gpus_are_not_forked(role: str, setting: str, value: str) -> None:
    """One service is enough: vLLM starts processes itself, and a GPU's driver cannot be forked."""
    environments = service_environments(SHIPPED_MODELS, "transformers")
    assert may_fork(environments)
    environments[role][f"GSI_{role.upper()}_{setting}"] = value
    assert not may_fork(environments)


async def test_no_fork_outlives_its_server(tmp_path: Path) -> None:
    """Not even one that nobody has stopped."""
    async with ForkServer([], tmp_path / "server.log") as forks:
        fork = await forks.run(PROGRAM, {"TOLD": "wait"})
        await first_line(fork)
    await fork.communicate()
    assert fork.returncode == -signal.SIGTERM

    async def is_gone() -> bool:
        return not is_alive(fork.pid)

    await wait_until(is_gone, "the kernel ends the fork")


async def test_a_server_that_cannot_start_is_an_error_that_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried for ever."""
    monkeypatch.setattr("gsi.local.forks.SERVER_MODULE", "no.such.module")
    async with ForkServer([], tmp_path / "server.log") as forks:
        with pytest.raises(InternalError, match=r"the fork server ends at once \(its log: .*server.log\)"):
            await forks.run(PROGRAM, {})
    assert "No module named" in (tmp_path / "server.log").read_text()
