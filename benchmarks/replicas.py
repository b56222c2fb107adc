"""What affinity to replicas is worth: ``make bench-replicas``, about eight minutes, of which vLLM takes most.

Three replicas of the target, with the engine vLLM and then with transformers; one draft, one PRM, one coordinator at a
time. 24 jobs are in flight. The ways take turns, with other problems each time, so that no way finds the prefixes of
another: a single replica, three by affinity, three in turn. The engines themselves count how many tokens of a prefix
they have found in their cache; a replica's load is the number of calls that it has answered.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import ignore, running_process
from benchmarks.results import describe_conditions, progress, publish
from gsi.client.sdk import AsyncClient
from gsi.evaluation.tables import Column, write_table
from gsi.jobs.reader import JobRecord
from gsi.local.child_process import ChildProcess
from gsi.local.demo import held_out_problems
from gsi.local.embedded_redis import embedded_redis, free_port
from gsi.local.stack import coordinator_environments, make_process
from gsi.runtime.installation import SHIPPED_MODELS

HEADING = "Affinity to replicas (`make bench-replicas`)"
VLLM_PYTHON = Path(__file__).parents[1] / ".venv-vllm" / "bin" / "python"
NUM_REPLICAS = 3
NUM_JOBS = 24
N = 4
DEMO_PROBLEMS = 24  # the first held-out problems, which benchmarks skip
WAYS = {"single": (1, "true"), "affinity": (NUM_REPLICAS, "true"), "round_robin": (NUM_REPLICAS, "false")}
FOUND = {"vllm": "vllm:prefix_cache", "transformers": "gsi_prefix_cache"}  # the series' names, without their ends
GOALS = {
    "affinity_hit_over_single": "at least 0.95",
    "round_robin_hit_over_single": "-",
    "load_over_even": "at most 1.25",
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """The running services: gRPC addresses by role, of the targets with their addresses of metrics, and a Redis."""

    redis_url: str
    folder: Path
    engine: str
    draft: str
    prm: str
    targets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the targets have counted: tokens looked up and found, and calls by address."""

    looked_up: float
    found: float
    calls: Counter[str]

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(self.looked_up - earlier.looked_up, self.found - earlier.found, self.calls - earlier.calls)


@asynccontextmanager
async def start_fleet(engine: str, redis_url: str, folder: Path) -> AsyncIterator[Fleet]:
    """Run a draft, a PRM, and the replicas of the target on an engine."""
    async with AsyncExitStack() as stack:

        async def start(role: str, name: str, model: str, python: Path, **settings: str) -> tuple[str, str]:
            listen, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
            given = {"LISTEN": listen, "METRICS_LISTEN": metrics, "MODEL": str(SHIPPED_MODELS / model)}
            given |= {"NUM_THREADS": "1", "LOG_FORMAT": "json", "GRACE_SECONDS": "0", **settings}
            environment = {f"GSI_{role.upper()}_{key}": value for key, value in given.items()}
            environment |= {"VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB: three engines share the machine
            command = [str(python), "-m", f"services.{role}"]
            await stack.enter_async_context(
                running_process(ChildProcess(name, command, environment, folder / name, ignore))
            )
            return listen, metrics

        own = Path(sys.executable)
        python = VLLM_PYTHON if engine == "vllm" else own
        names = [f"target-{number}" for number in range(1, NUM_REPLICAS + 1)]
        target = [start("target", name, "shallow-target", python, ENGINE=engine) for name in names]
        (draft, _), (prm, _), *targets = await asyncio.gather(
            start("draft", "draft", "draft", own), start("prm", "prm", "prm", own), *target
        )
        yield Fleet(redis_url, folder, engine, draft, prm, dict(targets))


async def measure_engine(engine: str, num_rounds: int) -> dict[str, Any]:
    """Return the figures of one engine: by way, and their ratios."""
    totals: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as name, embedded_redis() as redis_url:
        progress.print(f"{engine}: starting {NUM_REPLICAS} targets, a draft and a PRM")
        async with start_fleet(engine, redis_url, Path(name)) as fleet:
            for number in range(num_rounds * len(WAYS)):
                way = list(WAYS)[number % len(WAYS)]
                progress.print(f"{engine}: {way}, round {number // len(WAYS) + 1} of {num_rounds}")
                totals[way].append(await measure_way(fleet, way, number))
    ways = {way: _add_up(rounds) for way, rounds in totals.items()}
    hit_rates = {way: figures["hit_rate"] for way, figures in ways.items()}
    return {
        "affinity_hit_over_single": hit_rates["affinity"] / hit_rates["single"],
        "round_robin_hit_over_single": hit_rates["round_robin"] / hit_rates["single"],
        "load_over_even": ways["affinity"]["load_over_even"],
        "ways": ways,
    }


async def measure_way(fleet: Fleet, way: str, number: int) -> dict[str, Any]:
    """Answer problems that no way before has seen, all at once; return what was counted."""
    num_replicas, affinity = WAYS[way]
    targets = list(fleet.targets)[:num_replicas]
    queue = f"{way}-{number}"
    (environment,) = coordinator_environments(fleet.redis_url, queue, 1).values()
    settings = {
        **environment,
        "GSI_COORDINATOR_MAX_JOBS": str(NUM_JOBS),
        "GSI_COORDINATOR_DRAFT": fleet.draft,
        "GSI_COORDINATOR_TARGET": ",".join(targets),
        "GSI_COORDINATOR_PRM": fleet.prm,
        "GSI_COORDINATOR_AFFINITY": affinity,
    }
    process = make_process("coordinator-1", settings, fleet.folder / queue, ignore, None)
    async with running_process(process), AsyncClient(fleet.redis_url, queue) as client:
        before, started = read_counts(fleet, targets), time.perf_counter()
        records = await answer_problems(client, DEMO_PROBLEMS + number * NUM_JOBS)
        seconds = time.perf_counter() - started
        counts = read_counts(fleet, targets).since(before)
    steps = [step.seconds for record in records for step in record.steps]
    return {"counts": counts, "num_replicas": num_replicas, "seconds": seconds, "step_seconds": steps}


async def answer_problems(client: AsyncClient, skip: int) -> list[JobRecord]:
    """Answer problems, all at once; return the finished jobs."""
    ids = [
        await client.submit({"prompt": problem["prompt"], "params": {"n": N, "seed": seed}})
        for seed, problem in enumerate(held_out_problems(NUM_JOBS, skip=skip))
    ]
    return await asyncio.gather(*(client.wait(job_id) for job_id in ids))


def read_counts(fleet: Fleet, targets: Sequence[str]) -> Counts:
    """Ask the targets for what they have counted."""
    looked_up = found = 0.0
    calls: Counter[str] = Counter()
    for address in targets:
        with urllib.request.urlopen(f"http://{fleet.targets[address]}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in families for sample in family.samples]
        looked_up += sum(each.value for each in samples if each.name == f"{FOUND[fleet.engine]}_queries_total")
        found += sum(each.value for each in samples if each.name == f"{FOUND[fleet.engine]}_hits_total")
        counted = [each for each in samples if each.name == "gsi_rpc_seconds_count"]
        calls[address] = int(sum(each.value for each in counted if each.labels["method"] in ("Score", "Propose")))
    return Counts(looked_up, found, calls)


def _add_up(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of a way over all its rounds."""
    counts: list[Counts] = [each["counts"] for each in rounds]
    calls = sum((each.calls for each in counts), Counter[str]())
    return {
        "hit_rate": sum(each.found for each in counts) / sum(each.looked_up for each in counts),
        "load_over_even": max(calls.values()) * rounds[0]["num_replicas"] / calls.total(),
        "seconds_per_step": statistics.fmean(seconds for each in rounds for seconds in each["step_seconds"]),
        "problems_per_second": len(rounds) * NUM_JOBS / sum(each["seconds"] for each in rounds),
    }


async def measure(engines: Sequence[str], num_rounds: int) -> dict[str, Any]:
    """Return the report. The figures with goals are those of the first engine; ``engines`` has those of each."""
    figures = {engine: await measure_engine(engine, num_rounds) for engine in engines}
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    goals = {name: figures[engines[0]][name] for name in GOALS}
    return {**describe_conditions(), "load_of_machine_at_end": load, "rounds": num_rounds, **goals, "engines": figures}


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    engines: Mapping[str, Any] = report["engines"]
    rows = [(engine, way, figures) for engine in engines for way, figures in engines[engine]["ways"].items()]
    head = (
        f"{NUM_REPLICAS} replicas of the target, {NUM_JOBS} jobs in flight, n = {N}, {report['rounds']} rounds of each "
        f"way; all processes share {report['machine']} (load of the machine at the end, over 1, 5 and 15 minutes: "
        f"{report['load_of_machine_at_end']}); {report['date']}."
    )
    goals = [Column("figure", [f"`{name}`" for name in GOALS], is_number=False)]
    goals += [Column(engine, [f"{engines[engine][name]:.3f}" for name in GOALS]) for engine in engines]
    goals += [Column("goal", list(GOALS.values()), is_number=False)]
    figures = {
        "prefix hits": "hit_rate",
        "load over even": "load_over_even",
        "seconds a step": "seconds_per_step",
        "problems a second": "problems_per_second",
    }
    ways = [
        Column("engine", [engine for engine, _, _ in rows], is_number=False),
        Column("way", [way.replace("_", " ") for _, way, _ in rows], is_number=False),
        *(Column(title, [f"{of_way[name]:.3f}" for _, _, of_way in rows]) for title, name in figures.items()),
    ]
    return "\n\n".join([head, write_table(goals), write_table(ways)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one object and leave RESULTS.md unchanged")
    parser.add_argument("--engines", default="vllm,transformers", help="engines of the target, with a comma")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each way, of 24 jobs each")
    given = parser.parse_args()
    engines = given.engines.split(",")
    if unknown := [engine for engine in engines if engine not in FOUND]:
        parser.error(f"--engines: {json.dumps(unknown)}; allowed: {', '.join(FOUND)}")
    if "vllm" in engines and not VLLM_PYTHON.exists():
        parser.error(f"{VLLM_PYTHON} is missing: make test-vllm creates it")
    publish(asyncio.run(measure(engines, given.rounds)), HEADING, format_report, as_json=given.json)


if __name__ == "__main__":
    main()
