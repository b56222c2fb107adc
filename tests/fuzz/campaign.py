"""A campaign: three services in processes of their own, a canary, and as many attacks as were asked for."""

import asyncio
import re
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from gsi.local.child_process import ChildProcess
from gsi.local.stack import ROLES, make_process, service_environments
from gsi.runtime.installation import SHIPPED_MODELS
from tests.fuzz.attacks import ATTACKS, METHODS, Attack, Ending, with_every_ending
from tests.fuzz.calling import ALLOWED, CLIENT_LOST, Caller
from tests.fuzz.canary import Canary

Figures = dict[str, Any]

BATCH = 50  # calls that are drawn together, and made with every ending
CANARY_SECONDS = 1.0
POLL_SECONDS = 0.2
END_POLLS = 150  # half a minute, for the calls that their clients have left


@dataclass(frozen=True, slots=True)
class Services:
    """The processes, and host:port of gRPC and of the metrics of each, by role."""

    processes: Mapping[str, ChildProcess]
    addresses: Mapping[str, str]
    metrics: Mapping[str, str]

    def memory_peak_bytes(self) -> int:
        """Return the largest resident memory that any of the services has had."""
        statuses = (Path(f"/proc/{process.pid}/status").read_text() for process in self.processes.values())
        found = (re.search(r"VmHWM:\s+(\d+) kB", status) for status in statuses)
        return max(int(peak.group(1)) * 1024 for peak in found if peak)

    def in_flight(self) -> int:
        """Return the calls that the services still serve."""
        texts = (urllib.request.urlopen(f"http://{at}/metrics").read().decode() for at in self.metrics.values())
        return sum(int(float(n)) for text in texts for n in re.findall(r"^gsi_rpcs_in_flight\{.*\} (\S+)$", text, re.M))


@asynccontextmanager
async def services(folder: Path) -> AsyncIterator[Services]:
    """Run the three services on the shipped models; their logs go to the folder."""
    environments = service_environments(SHIPPED_MODELS, "transformers")
    processes = {
        role: make_process(role, own, folder / f"{role}.log", lambda *_: None, None)
        for role, own in environments.items()
    }
    try:
        await asyncio.gather(*(process.start() for process in processes.values()))
        yield Services(
            processes,
            {role: environments[role][f"GSI_{role.upper()}_LISTEN"] for role in ROLES},
            {role: environments[role][f"GSI_{role.upper()}_METRICS_LISTEN"] for role in ROLES},
        )
    finally:
        await asyncio.gather(*(process.stop() for process in processes.values()))


def run(num_requests: int, seconds: float, number: int, folder: Path) -> Figures:
    """Return the figures of a campaign of so many requests, or of as many as fit into so many seconds."""
    with asyncio.Runner() as runner:
        running = services(folder)
        up = runner.run(running.__aenter__())
        pids = {process.pid for process in up.processes.values()}
        try:
            caller, canary = runner.run(_make_caller(up)), Canary(up.addresses)
            with canary.singing():
                _attack(runner, caller, num_requests, seconds, number)
                in_flight = runner.run(_wait_for_end(up))
            runner.run(caller.close())
            has_died = pids != {process.pid for process in up.processes.values()}
            return _figures(caller, canary, up.memory_peak_bytes(), in_flight, has_died=has_died)
        finally:
            runner.run(running.__aexit__(None, None, None))


async def _make_caller(up: Services) -> Caller:
    return Caller(up.addresses)  # its channels belong to the loop that runs


def _attack(runner: asyncio.Runner, caller: Caller, num_requests: int, seconds: float, number: int) -> None:
    """Draw batches and make their calls, until there were enough or the time is over."""
    end = time.monotonic() + seconds
    silent = [Attack(role, f"/gsi.v1.{name}", (), Ending.SILENT) for role, name in METHODS]
    runner.run(caller.make(silent))
    while caller.statuses.total() < num_requests and time.monotonic() < end:
        runner.run(caller.make(draw(BATCH, number + caller.statuses.total())))
        print(f"\r{caller.statuses.total()} requests", end="", file=sys.stderr, flush=True)


def draw(size: int, number: int) -> list[Attack]:
    """Draw a batch of calls, each with every ending."""
    drawn: list[Attack] = []

    @seed(number)
    @settings(
        max_examples=size,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(ATTACKS)
    def keep(attack: Attack) -> None:
        drawn.extend(with_every_ending(attack))

    keep()
    return drawn


async def _wait_for_end(up: Services) -> int:
    """Return the calls in flight once there are none but the canary's, or after a while."""
    for _ in range(END_POLLS):
        if not (in_flight := await asyncio.to_thread(up.in_flight)):
            break
        await asyncio.sleep(POLL_SECONDS)
    return in_flight


def _figures(
    caller: Caller, canary: Canary, memory_peak_bytes: int, in_flight: int, *, has_died: bool
) -> dict[str, Any]:
    statuses = dict(caller.statuses)
    passed = (
        set(statuses) <= ALLOWED | {CLIENT_LOST}
        and canary.longest_seconds < CANARY_SECONDS
        and not canary.failures
        and in_flight == 0
        and not has_died
    )
    return {
        "requests": sum(statuses.values()),
        "statuses": statuses,
        "canary_answers": canary.num_answers,
        "canary_failures": canary.failures[:5],
        "longest_canary_seconds": round(canary.longest_seconds, 3),
        "memory_peak_bytes": memory_peak_bytes,
        "in_flight_after": in_flight,
        "passed": passed,
    }
