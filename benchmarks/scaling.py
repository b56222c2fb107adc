"""How far one of each part goes, on paper and by simulation: ``python -m benchmarks.scaling``, some seconds.

On paper: what a part costs a job, by ``make bench-coordinator`` and ``gsi plan``, against what there is of it. By
simulation: jobs arrive at random, wait for a slot, for their coordinator's processor, for Redis and for the models, and
each of these serves in turn. Networks are free here, and no part fails. ``docs/scaling.md`` draws the conclusions.
"""

import argparse
import heapq
import itertools
import json
import math
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gsi.evaluation.tables import Column, write_table

HOUR = 3600.0
LOADS = (100, 10_000, 1_000_000)  # jobs an hour
USED = 0.7  # of each part: beyond, waits grow fast
LIFETIMES = {"a week": 168, "a day": 24, "an hour": 1}  # hours that a result can be read
SIMULATED_JOBS = 10_000
NOBODY = -1  # instead of a coordinator


@dataclass(frozen=True, slots=True)
class Costs:
    """What a job takes of each part."""

    steps: int = 14  # GSI paper, Table 2
    coordinator_seconds: float = 0.0026  # of its processor, for a step
    redis_seconds: float = 0.000_1  # of its processor, for a step, with a fourteenth of what a job costs once
    redis_bytes: float = 1000.0  # of a finished job, for a step
    model_seconds: float = 0.45  # of a step, n = 16, on three H100 (docs/performance.md)
    model_places: int = 16  # jobs whose candidates share the passes of a trio of models


@dataclass(frozen=True, slots=True)
class Size:
    """How many of each part there are."""

    coordinators: int
    max_jobs: int  # of a coordinator
    trios: int  # of draft, target and PRM


def limits(costs: Costs, memory_bytes: float) -> dict[str, float]:
    """Return the jobs an hour at which one of each part is used up, the first to break first."""
    found = {
        "Redis's memory, results kept a week": memory_bytes / (costs.redis_bytes * costs.steps) / LIFETIMES["a week"],
        "slots of a coordinator with its default, 16": 16 / (costs.steps * costs.model_seconds) * HOUR,
        "a trio of models": costs.model_places / (costs.steps * costs.model_seconds) * HOUR,
        "a coordinator's processor": HOUR / (costs.steps * costs.coordinator_seconds),
        "Redis's processor": HOUR / (costs.steps * costs.redis_seconds),
    }
    return dict(sorted(found.items(), key=lambda each: each[1]))


def size_for(load: float, costs: Costs) -> Size:
    """Return the parts that a load needs, each used by ``USED`` at most."""
    steps_per_second = load / HOUR * costs.steps / USED
    coordinators = math.ceil(steps_per_second * costs.coordinator_seconds)
    trios = math.ceil(steps_per_second * costs.model_seconds / costs.model_places)
    return Size(coordinators, math.ceil(trios * costs.model_places / coordinators), trios)


class Part:
    """Servers that take the work of one queue in the order in which it comes."""

    def __init__(self, num_servers: int) -> None:
        self._free_at = [0.0] * num_servers

    def serve(self, now: float, seconds: float) -> float:
        """Return when work that comes now has been done. Calls must be in the order of time."""
        end = max(now, self._free_at[0]) + seconds
        heapq.heapreplace(self._free_at, end)
        return end


def simulate(load: float, size: Size, costs: Costs, seed: int = 0) -> dict[str, float]:
    """Let jobs arrive; return the median, and what a twentieth passes, of their seconds beyond the models' own."""
    generator, numbers = random.Random(seed), itertools.count()
    models, redis = Part(size.trios * costs.model_places), Part(1)
    processors = [Part(1) for _ in range(size.coordinators)]
    slots = deque(coordinator for _ in range(size.max_jobs) for coordinator in range(size.coordinators))
    waiting: deque[int] = deque()
    arrivals = list(itertools.accumulate(generator.expovariate(load / HOUR) for _ in range(SIMULATED_JOBS)))
    late: list[float] = []
    # Time, tie-break, job, its coordinator, and how much of it has been done: each step is three pieces of work.
    events = [(time, next(numbers), job, NOBODY, 0) for job, time in enumerate(arrivals)]
    while events:
        now, _, job, coordinator, num_done = heapq.heappop(events)
        if coordinator == NOBODY:
            waiting.append(job)
        elif num_done == 3 * costs.steps:
            slots.append(coordinator)
            late.append(now - arrivals[job] - costs.steps * costs.model_seconds)
        else:
            part = (processors[coordinator], models, redis)[num_done % 3]
            seconds = (costs.coordinator_seconds, costs.model_seconds, costs.redis_seconds)[num_done % 3]
            heapq.heappush(events, (part.serve(now, seconds), next(numbers), job, coordinator, num_done + 1))
        while waiting and slots:
            heapq.heappush(events, (now, next(numbers), waiting.popleft(), slots.popleft(), 0))
    late.sort()
    return {"median": late[len(late) // 2], "p95": late[len(late) * 95 // 100]}


def report(costs: Costs, memory_bytes: float) -> dict[str, Any]:
    """Return limits of one of each, and what each load needs."""
    return {
        "costs": asdict(costs),
        "limits": limits(costs, memory_bytes),
        "loads": [
            {
                "jobs_per_hour": load,
                **asdict(size := size_for(load, costs)),
                "redis_processor": load / HOUR * costs.steps * costs.redis_seconds,
                **{
                    f"redis_gb_{name}": load * hours * costs.steps * costs.redis_bytes / 1e9
                    for name, hours in LIFETIMES.items()
                },
                **{f"late_seconds_{name}": value for name, value in simulate(load, size, costs).items()},
            }
            for load in LOADS
        ],
    }


def format_report(found: Mapping[str, Any]) -> str:
    """Return the report as two tables."""
    broken = [
        Column("what is used up", list(found["limits"]), is_number=False),
        Column("jobs an hour", [f"{load:,.0f}" for load in found["limits"].values()]),
    ]
    names = [name for name in found["loads"][0] if name != "jobs_per_hour"]
    needed = [
        Column("jobs an hour", names, is_number=False),
        *(Column(f"{load['jobs_per_hour']:,}", [f"{load[name]:.3g}" for name in names]) for load in found["loads"]),
    ]
    return f"{write_table(broken)}\n\n{write_table(needed)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    parser.add_argument("--memory-gb", type=float, default=16.0, help="of Redis")
    for name, default in asdict(Costs()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = vars(parser.parse_args())
    costs = Costs(**{name: given[name] for name in asdict(Costs())})
    found = report(costs, given["memory_gb"] * 1e9)
    print(json.dumps(found) if given["json"] else format_report(found))


if __name__ == "__main__":
    main()
