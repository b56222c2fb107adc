"""What batching and kept prefixes are worth on the transformers engine: ``python -m benchmarks.batching --json``.

The whole system runs: Redis, a coordinator, three services of one thread each, on the shipped family. The ways take
turns. Seconds of the clock tell little on a machine that others use as well, so the seconds of processors, which each
process needed for a problem, stand beside them.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import describe_conditions, progress
from gsi.client.sdk import AsyncClient
from gsi.jobs.reader import JobRecord
from gsi.local.demo import held_out_problems
from gsi.local.stack import ROLE_NAMES, Stack, local_stack

N = 4
NUM_JOBS = (1, 4, 16)
DEMO_PROBLEMS = 24  # the first held-out problems, which benchmarks skip
SECONDS_A_TICK = 1 / os.sysconf("SC_CLK_TCK")


def engine_settings(**values: str) -> dict[str, str]:
    """Return the environment that gives all three services these settings."""
    return {f"GSI_{role}_{name.upper()}": value for role in ROLE_NAMES for name, value in values.items()}


WAYS: Mapping[str, Mapping[str, str]] = {
    "a request at a time, cold prefixes": engine_settings(batching="false", prefix_cache_bytes="0"),
    "a request at a time, warm prefixes": engine_settings(batching="false"),
    "batched, cold prefixes": engine_settings(prefix_cache_bytes="0"),
    "batched, warm prefixes": {},
}


async def measure_way(settings: Mapping[str, str], num_problems: int) -> dict[str, Any]:
    """Return the figures of one way by the number of jobs at once."""
    figures = {}
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as folder:
        shared = {"GSI_COORDINATOR_MAX_JOBS": str(max(NUM_JOBS)), **settings}
        stack = local_stack(Path(folder), lambda *_: None, engine="transformers", settings=shared)
        async with stack as running, AsyncClient(running.redis_url) as client:
            await answer_problems(client, 2 * max(NUM_JOBS), max(NUM_JOBS), seed=10**6)  # warms up
            for seed, num_jobs in enumerate(NUM_JOBS):
                figures[str(num_jobs)] = await measure_jobs(running, client, num_problems, num_jobs, seed)
    return figures


async def measure_jobs(
    stack: Stack, client: AsyncClient, num_problems: int, num_jobs: int, seed: int
) -> dict[str, Any]:
    """Answer the problems with so many jobs at once; ``seed`` keeps the passes apart."""
    before, started = processor_seconds(stack), time.perf_counter()
    records = await answer_problems(client, num_problems, num_jobs, seed * num_problems)
    seconds = time.perf_counter() - started
    used = {name: (value - before[name]) / num_problems for name, value in processor_seconds(stack).items()}
    steps = [step for record in records for step in record.steps]
    return {
        "problems_per_second": num_problems / seconds,
        "seconds_per_step": statistics.fmean(step.seconds for step in steps),
        "steps_per_problem": len(steps) / num_problems,
        "processor_seconds_per_problem": sum(used.values()),
        **{f"processor_seconds_per_problem_{name}": value for name, value in used.items()},
    }


async def answer_problems(client: AsyncClient, num_problems: int, num_jobs: int, seed: int) -> list[JobRecord]:
    """Answer problems with at most so many jobs in the queue; return the finished jobs."""
    slots = asyncio.Semaphore(num_jobs)

    async def answer(prompt: str, job_seed: int) -> JobRecord:
        async with slots:
            return await client.wait(await client.submit({"prompt": prompt, "params": {"n": N, "seed": job_seed}}))

    problems = held_out_problems(num_problems, skip=DEMO_PROBLEMS)
    return await asyncio.gather(
        *(answer(problem["prompt"], number) for number, problem in enumerate(problems, start=seed))
    )


def processor_seconds(stack: Stack) -> dict[str, float]:
    """Return the seconds of processors that each process has used since its start."""
    processes = {**stack.processes, "redis": stack.redis}
    return {name: read_processor_seconds(process.pid) for name, process in processes.items()}


def read_processor_seconds(pid: int) -> float:
    """Read a process's user and system time: fields 14 and 15 of proc(5); the name, field 2, may hold spaces."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * SECONDS_A_TICK


async def measure_ways(num_problems: int) -> dict[str, Any]:
    """Return the figures of every way, with the ratio of 16 jobs to one."""
    ways: dict[str, Any] = {}
    for way, settings in WAYS.items():
        progress.print(way)
        figures = await measure_way(settings, num_problems)
        first, last = (figures[str(number)]["problems_per_second"] for number in (NUM_JOBS[0], NUM_JOBS[-1]))
        ways[way] = {"jobs": figures, "problems_per_second_16_jobs_over_1": last / first}
    return {"n": N, "problems": num_problems, "ways": ways}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print one object instead of lines")
    given = parser.parse_args()
    report = {**describe_conditions(), **asyncio.run(measure_ways(given.problems))}
    print(json.dumps(report, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
