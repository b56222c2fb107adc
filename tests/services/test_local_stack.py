"""``gsi up`` and ``gsi demo`` as a person runs them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gsi.cli.system import REDIS_PORT
from gsi.jobs.connection import LOST_CONNECTION, connect
from gsi.local.arrangement import Arrangement
from gsi.local.stack import ROLES, local_stack
from gsi.rpc.clients import DraftClient
from gsi.runtime.child import child_command
from tests.conftest import wait_until
from tests.system import SHALLOW_TARGET

GSI = str(Path(sys.executable).parent / "gsi")
UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def descendants_of(pid: int) -> list[int]:
    return [each for child in children_of(pid) for each in (child, *descendants_of(child))]


@contextmanager
def default_port_taken() -> Iterator[None]:
    """Take the default port without listening: a test of another process must not find a Redis there."""
    with socket.socket() as holder:
        with suppress(OSError):  # taken already, which does as well
            holder.bind(("127.0.0.1", REDIS_PORT))
        yield


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_gsi_up_says_what_is_ready_and_leaves_nothing_behind(how: signal.Signals) -> None:
    """It reports each process that is ready; Ctrl-C ends it cleanly, and even kill -9 leaves no orphan.

    A process that is killed, Redis included, is started again, and Redis has kept its data.
    """
    lines: list[str] = []
    with (
        default_port_taken(),
        subprocess.Popen([GSI, "up"], env=UNBUFFERED, stderr=subprocess.PIPE, text=True) as up,
    ):
        assert up.stderr is not None
        for line in up.stderr:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        if how is signal.SIGINT:
            the_gateway_answers("".join(lines))
            for name in ("redis", "coordinator-1"):
                await a_killed_process_is_back(up, name, "".join(lines))
        processes = descendants_of(up.pid)
        up.send_signal(how)
        rest = up.stderr.read()
        code = up.wait(timeout=30)
    ready = {line.split()[1] for line in lines if line.startswith("ready")}
    assert ready == {"redis", "draft", "target", "prm", "coordinator-1", "gateway"}
    assert len(processes) == len(ready) + 1  # the process that the services are forks of

    async def all_are_gone() -> bool:
        return not any(map(is_alive, processes))

    await wait_until(all_are_gone, "no process is left")
    (url,) = re.findall(r"GSI_REDIS_URL=(\S+)", "".join(lines))
    redis = connect(url)
    with pytest.raises(LOST_CONNECTION):
        await redis.ping()
    await redis.aclose()
    if how is signal.SIGINT:
        assert (code, rest.split()[-2:]) == (0, ["stopping", "stopped"])


def test_a_dry_run_checks_the_models_and_stops() -> None:
    """It starts no coordinator, so no job is taken; what is found comes on standard output, one line each."""
    shown = subprocess.run([GSI, "up", "--dry-run"], env=UNBUFFERED, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    subjects = {line[8:25].strip() for line in shown.stdout.splitlines()}  # behind the level
    assert {"draft proposes", "target scores", "prm rewards"} <= subjects
    assert "0 errors" in shown.stderr
    assert "coordinator" not in shown.stderr


def the_gateway_answers(said: str) -> None:
    """Ask at the URL that ``gsi up`` prints, with the conversation of its example."""
    (url, body) = re.findall(r"curl -N (\S+) --json '(.*)'", said)[0]
    asked = {**json.loads(body), "stream": False, "gsi_n": 2, "gsi_max_steps": 2}
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        told = json.load(answer)
    assert told["choices"][0]["message"]["content"]
    assert told["usage"]["gsi"]["draft_tokens"] > 0


async def a_killed_process_is_back(up: "subprocess.Popen[str]", name: str, said: str) -> None:
    """Kill -9 a process of ``gsi up``; return when it is ready again and Redis has what was written before."""
    redis = connect(re.findall(r"GSI_REDIS_URL=(\S+)", said)[0])
    await redis.set(f"before the end of {name}", "x")
    program = b"valkey" if name == "redis" else b"-m services.coordinator"  # as a fork is called
    (pid,) = (pid for pid in descendants_of(up.pid) if program in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(pid, signal.SIGKILL)
    seen: list[str] = []
    while not (seen and seen[-1].split()[:2] == ["ready", name]):
        assert up.stderr is not None
        seen.append(up.stderr.readline())
        assert seen[-1], f"gsi up has ended: {seen}"
    assert any("ended with code -9; starting it again in 1 s" in line for line in seen)
    assert await redis.exists(f"before the end of {name}")
    await redis.aclose()


async def test_a_child_does_not_outlive_a_parent_that_is_killed() -> None:
    """The parent cannot stop it; the kernel does."""
    script = f"import subprocess; print(subprocess.Popen({child_command(['sleep', '60'])!r}).pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())

        async def sleeps() -> bool:
            return Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep")

        async def is_gone() -> bool:
            return not is_alive(child)

        await wait_until(sleeps, "the child has become its command")
        parent.kill()
        await wait_until(is_gone, "the kernel ends the child")


def test_the_demo_prints_one_json_object(tmp_path: Path) -> None:
    """It has parameters, jobs with their steps, and a comparison; and the numbers agree with each other."""
    command, settings = [GSI, "demo", "--json", "--problems", "6"], os.environ | SHALLOW_TARGET
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True, cwd=tmp_path, env=settings)
    demo = json.loads(ran.stdout)
    steps = [step for job in demo["jobs"] for step in job["steps"]]
    assert demo["params"] == {"n": 4}
    assert {job["state"] for job in demo["jobs"]} == {"SUCCEEDED"}
    assert [job["correct"] for job in demo["jobs"]] == [job["answer"] == job["expected"] for job in demo["jobs"]]
    assert demo["totals"]["accuracy"] == sum(job["correct"] for job in demo["jobs"]) / 6
    accepted = [step for step in steps if step["outcome"] == "accepted"]
    assert demo["totals"]["acceptance_rate"] == len(accepted) / len(steps)
    gsi, alone, best = demo["comparison"]
    assert gsi == {"name": "GSI", "params": {"n": 4}, **demo["totals"]}
    assert (alone["params"], best["params"]) == (
        {"method": "target"},
        {"n": 4, "method": "soft-best-of-n", "role": "target"},
    )
    assert (alone["draft_tokens"], best["draft_tokens"]) == (0, 0)
    assert best["target_tokens"] > alone["target_tokens"] > gsi["target_tokens"]
    assert demo["gain"].startswith(f"GSI gets {gsi['correct']} of 6 problems right in ")
    assert gsi["seconds_per_answer"] == pytest.approx(sum(job["seconds"] for job in demo["jobs"]) / 6)
    for step in accepted:
        assert step["tilted_reward"] == pytest.approx(tilted(step), abs=1e-12)
        assert step["tilted_reward"] >= 0.5
    for step in steps:
        if step["outcome"] == "resampled":
            assert step["source"] == "target"
            assert step["rejected"]["tilted_reward"] == pytest.approx(tilted(step["rejected"]), abs=1e-12)
            assert step["rejected"]["tilted_reward"] < 0.5


def tilted(step: dict[str, Any]) -> float:
    """Return r + (log pi_B - log pi_S) / beta at the paper's beta."""
    return float(step["reward"] + (step["log_likelihood_target"] - step["log_likelihood_draft"]) / 20)


async def test_services_that_share_a_gpu_start_one_after_the_other(tmp_path: Path) -> None:
    """None begins before the one in front of it is ready. An arrangement's variables reach each process."""
    reported: list[tuple[str, str]] = []

    def report(process: str, event: Any) -> None:
        if process in ROLES and event["event"] in {"loading", "ready"}:  # the first and the last line of a start
            reported.append((process, event["event"]))

    arrangement = Arrangement(
        {role: {f"GSI_{role.upper()}_DTYPE": "bfloat16"} for role in ROLES}, groups=[["draft"], ["target"], ["prm"]]
    )
    async with (
        local_stack(tmp_path, report, settings=SHALLOW_TARGET, arrangement=arrangement) as stack,
    ):
        draft = DraftClient(stack.addresses["draft"], 10.0)
        assert (await draft.model_info()).dtype == "bfloat16"
        await draft.close()
    assert reported == [(role, event) for role in ROLES for event in ("loading", "ready")]


async def test_ctrl_c_ends_gsi_up_while_it_starts() -> None:
    """A start may download a large checkpoint; the first Ctrl-C stops it, cleanly."""
    with subprocess.Popen([GSI, "up"], env=UNBUFFERED, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        while not up.stderr.readline().startswith("ready  redis"):
            pass
        processes = descendants_of(up.pid)
        up.send_signal(signal.SIGINT)
        said = up.stderr.read().splitlines()
        assert up.wait(timeout=30) == 0
    assert said[-1] == "stopped"
    assert not any("Ctrl-C" in line for line in said)
    assert not any(map(is_alive, processes))
