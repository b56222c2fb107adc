"""What lookahead is worth: ``python -m benchmarks.lookahead``, about seven minutes on two quiet cores.

The whole system runs twice on one Redis: two coordinators share the three services, one with lookahead and one without,
each on a queue of its own, and only one has work at a time. Blocks of problems take turns, with and without, at low
load (one job at a time) and at full load (sixteen), so that a busy moment of the machine affects both ways alike. Both
ways answer the same problems, with seeds of their own, so that no way finds the other's steps among the prefixes kept;
with ``--exact`` nothing is kept, the seeds are the same, and so must the texts be. A ratio is of neighbouring blocks;
the report has its median and its range, and the load of the machine, which tells how much to trust it.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.batching import answer_problems, engine_settings
from benchmarks.processes import ignore, running_process
from benchmarks.results import describe_conditions, progress
from gsi.client.sdk import AsyncClient
from gsi.jobs.reader import JobRecord
from gsi.local.child_process import ChildProcess
from gsi.local.stack import ROLES, Stack, coordinator_environments, local_stack, make_process

LOADS = {"low": 1, "full": 16}  # jobs at once
WAYS = {"off": "false", "on": "true"}
OTHER_SEEDS = {"off": 0, "on": 10**5}
FATES = ("kept", "wasted")
QUIET_LOAD = 2.0  # of two cores; above it the seconds are those of a machine that others use as well


@dataclass(frozen=True, slots=True)
class Way:
    """A coordinator with or without lookahead, and a client of its queue."""

    client: AsyncClient
    metrics: str

    def drafts_ahead(self) -> dict[str, float]:
        """Return how many drafts were written ahead, by what became of them."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in families for sample in family.samples]
        return {each.labels["outcome"]: each.value for each in samples if each.name == "gsi_drafts_ahead_total"}


@asynccontextmanager
async def start_ways(folder: Path, is_exact: bool) -> AsyncIterator[Mapping[str, Way]]:
    """Run the services and a coordinator for each way."""
    settings = engine_settings(batching="false", prefix_cache_bytes="0") if is_exact else {}
    stack = local_stack(folder, ignore, engine="transformers", num_coordinators=0, settings=settings)
    async with stack as running, AsyncExitStack() as exits:
        ways = {}
        for way, setting in WAYS.items():
            process, metrics = _make_coordinator(running, folder, way, setting)
            await exits.enter_async_context(running_process(process))
            ways[way] = Way(await exits.enter_async_context(AsyncClient(running.redis_url, way)), metrics)
        yield ways


def _make_coordinator(running: Stack, folder: Path, way: str, setting: str) -> tuple[ChildProcess, str]:
    (environment,) = coordinator_environments(running.redis_url, way, 1).values()
    environment |= {f"GSI_COORDINATOR_{role.upper()}": running.addresses[role] for role in ROLES}
    environment |= {"GSI_COORDINATOR_MAX_JOBS": str(max(LOADS.values())), "GSI_COORDINATOR_LOOKAHEAD": setting}
    process = make_process("coordinator-1", environment, folder / f"{way}.log", ignore, None)
    return process, environment["GSI_COORDINATOR_METRICS_LISTEN"]


class Blocks:
    """What the blocks at one load gave, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        self.drafts = dict.fromkeys(FATES, 0.0)
        self.num_different = 0

    async def add(
        self, ways: Mapping[str, Way], num_problems: int, num_jobs: int, block: int, *, is_exact: bool
    ) -> None:
        """Answer a block's problems in each way."""
        texts = {}
        for name in list(WAYS)[:: 1 if block % 2 else -1]:  # each way is first in every second block
            seed = block * num_problems + (0 if is_exact else OTHER_SEEDS[name])
            took, records, ahead = await _measure_block(ways[name], num_problems, num_jobs, seed)
            self.seconds[name].append(took)
            self.drafts = {fate: self.drafts[fate] + ahead[fate] for fate in FATES}
            texts[name] = [record.fields["text"] for record in records]
        self.num_different += sum(one != other for one, other in zip(texts["on"], texts["off"], strict=True))


async def measure(num_problems: int, num_blocks: int, *, is_exact: bool) -> dict[str, Any]:
    """Return the report."""
    blocks = {load: Blocks() for load in LOADS}
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as folder:
        progress.print("starting three services and two coordinators")
        async with start_ways(Path(folder), is_exact) as ways:
            for way in ways.values():
                await answer_problems(way.client, 4, 4, seed=10**6)  # warms up
            for block in range(num_blocks):
                for load, num_jobs in LOADS.items():
                    progress.print(f"block {block + 1} of {num_blocks}: {load} load")
                    await blocks[load].add(ways, num_problems, num_jobs, block, is_exact=is_exact)
    return {
        **describe_conditions(),
        "problems": num_problems,
        "blocks": num_blocks,
        "is_exact": is_exact,
        "answers_that_differ": sum(each.num_different for each in blocks.values()) if is_exact else None,
        "load_before": load_before,
        "was_quiet": load_before < QUIET_LOAD,
        **{load: {**compare(each.seconds), "drafts": each.drafts} for load, each in blocks.items()},
    }


async def _measure_block(
    way: Way, num_problems: int, num_jobs: int, seed: int
) -> tuple[float, list[JobRecord], dict[str, float]]:
    """Answer a block's problems; return the seconds of the clock, the jobs, and the drafts written ahead."""
    before, started = way.drafts_ahead(), time.perf_counter()
    records = await answer_problems(way.client, num_problems, num_jobs, seed)
    seconds = time.perf_counter() - started
    return seconds, records, {fate: count - before[fate] for fate, count in way.drafts_ahead().items()}


def compare(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the seconds of each way's blocks, and how the blocks compare; below 1 lookahead saves time."""
    ratios = sorted(on / off for on, off in zip(seconds["on"], seconds["off"], strict=True))
    return {
        "seconds_off": statistics.median(seconds["off"]),
        "seconds_on": statistics.median(seconds["on"]),
        "on_over_off": statistics.median(ratios),
        "on_over_off_least": ratios[0],
        "on_over_off_most": ratios[-1],
        "blocks_in_which_it_saves_time": sum(ratio < 1 for ratio in ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=16, help="problems of a block")
    parser.add_argument("--blocks", type=int, default=6, help="blocks of each way at each load")
    parser.add_argument(
        "--exact", action="store_true", help="requests share nothing, so that texts are equal to the bit"
    )
    parser.add_argument("--json", action="store_true", help="print one object in one line")
    given = parser.parse_args()
    for name in ("problems", "blocks"):
        if getattr(given, name) < 1:
            parser.error(f"--{name}: {getattr(given, name)}; allowed: 1 and more")
    report = asyncio.run(measure(given.problems, given.blocks, is_exact=given.exact))
    print(json.dumps(report, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
