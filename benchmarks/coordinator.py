"""What the coordinator itself costs: ``make bench-coordinator``, about two minutes.

Real coordinators and services, each in a process of its own, over real gRPC and a real Redis; the engines answer at
once (``benchmarks/no_op_engines.py``). What is measured is all that is not a model.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.batching import read_processor_seconds
from benchmarks.processes import ignore, running_process
from benchmarks.results import describe_conditions, progress, publish
from gsi.client.sdk import AsyncClient
from gsi.evaluation.tables import Column, write_table
from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobWriter
from gsi.local.child_process import ChildProcess
from gsi.local.embedded_redis import embedded_redis, free_port
from gsi.local.stack import coordinator_environments, make_process

HEADING = "The coordinator's own cost (`make bench-coordinator`)"
N = 16
IN_FLIGHT = 8
MANY_IN_FLIGHT = 64
MANY_JOBS = 1000
FILE_JOBS = 50_000
POLL_SECONDS = 0.02
MANY_CALLS = 10_000  # at a service: here the coordinator is to be the narrowest place
ENGINES = {
    "draft": "Together",
    "draft-one-by-one": "OneByOne",
    "draft-held": "Held",
    "target": "Together",
    "prm": "Judge",
}
GOALS = {
    "step_ms_alone": "-",
    "steps_per_second_one_message": "-",
    "steps_per_second_message_each": "at least 300",
    "coordinator_mb_1000_jobs": "at most 250",
    "first_step_ms": "-",
    "submit_file_jobs_per_second": "at least 10,000",
}


@dataclass(frozen=True, slots=True)
class Services:
    """The running model services, by the names of ``ENGINES``, and a Redis."""

    redis_url: str
    addresses: Mapping[str, str]
    processes: Mapping[str, ChildProcess]
    folder: Path


@asynccontextmanager
async def start_services(
    folder: Path, redis_url: str, names: Sequence[str] = tuple(ENGINES)
) -> AsyncIterator[Services]:
    """Run a service for each of these ``ENGINES``."""
    addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
    processes = {}
    async with AsyncExitStack() as stack:
        for name in names:
            role, engine = name.partition("-")[0], ENGINES[name]
            settings = {
                f"GSI_{role.upper()}_{key}": value
                for key, value in {
                    "LISTEN": addresses[name],
                    "MODEL": "no-op",
                    "ENGINE": engine,
                    "LOG_FORMAT": "json",
                    "MAX_CONCURRENT_RPCS": str(MANY_CALLS),
                    "MAX_PEER_SHARE": "1",
                    "GRACE_SECONDS": "0",
                }.items()
            }
            command = [sys.executable, "-m", "benchmarks.no_op_service", role]
            processes[name] = ChildProcess(name, command, settings, folder / name, ignore)
            await stack.enter_async_context(running_process(processes[name]))
        yield Services(redis_url, addresses, processes, folder)


@asynccontextmanager
async def start_coordinator(
    services: Services, queue: str, max_jobs: int, draft: str = "draft"
) -> AsyncIterator["Measured"]:
    """Run a coordinator on a queue of its own, with one of the drafts."""
    (environment,) = coordinator_environments(services.redis_url, queue, 1).values()
    settings = {
        **environment,
        "GSI_COORDINATOR_MAX_JOBS": str(max_jobs),
        "GSI_COORDINATOR_DRAFT": services.addresses[draft],
        "GSI_COORDINATOR_TARGET": services.addresses["target"],
        "GSI_COORDINATOR_PRM": services.addresses["prm"],
    }
    process = make_process("coordinator-1", settings, services.folder / queue, ignore, None)
    async with (
        running_process(process),
        AsyncClient(services.redis_url, queue) as client,
        aclosing(connect(services.redis_url)) as redis,
    ):
        measured = Measured(process.pid, client, redis, Keys(queue))
        await measured.run(2, 2)  # warms up
        yield measured


class Measured:
    """A coordinator with its queue."""

    def __init__(self, pid: int, client: AsyncClient, redis: Any, keys: Keys) -> None:
        self._pid = pid
        self._client = client
        self._redis = redis
        self._keys = keys
        self._num_jobs = 0

    async def run(self, num_jobs: int, num_steps: int) -> dict[str, float]:
        """Push jobs at once and wait for their ends; return steps a second, and what processors did for a step."""
        cpu, redis_cpu, started = read_processor_seconds(self._pid), await self._redis_seconds(), time.perf_counter()
        payloads = [write_payload(num_steps)] * num_jobs
        ids = [job_id async for job_id in self._client.submit_many(payloads)]
        self._num_jobs += len(ids)
        while await self._redis.xlen(self._keys.results) < self._num_jobs:
            await asyncio.sleep(POLL_SECONDS)
        seconds, steps = time.perf_counter() - started, num_jobs * num_steps
        return {
            "steps_per_second": steps / seconds,
            "cpu_ms_a_step": 1000 * (read_processor_seconds(self._pid) - cpu) / steps,
            "redis_cpu_us_a_step": 1e6 * (await self._redis_seconds() - redis_cpu) / steps,
        }

    async def first_step_ms(self, num_jobs: int) -> float:
        """Return the median time from a job's submission to its first kept step, by the server's clock."""
        waits = []
        for _ in range(num_jobs):
            job_id = await self._client.submit(write_payload(1))
            record = await self._client.wait(job_id)
            self._num_jobs += 1
            ((entry, _),) = await self._redis.xrange(self._keys.steps(job_id), count=1)
            waits.append(int(entry.split(b"-")[0]) - int(record.fields["submitted_at"]))
        return statistics.median(waits)

    async def kilobytes_of_a_job(self, num_steps: int) -> float:
        """Return what a finished job of so many steps holds in Redis, in 10^3 bytes."""
        job_id = await self._client.submit(write_payload(num_steps))
        await self._client.wait(job_id)
        self._num_jobs += 1
        keys = (self._keys.record(job_id), self._keys.steps(job_id))
        return float(sum([await self._redis.memory_usage(key, samples=0) for key in keys])) / 1e3

    async def _redis_seconds(self) -> float:
        """Return the seconds of processors that Redis has used."""
        used = await self._redis.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    def megabytes(self, what: str) -> float:
        """Return the coordinator's memory: see ``read_megabytes``."""
        return read_megabytes(self._pid, what)


def read_megabytes(pid: int, what: str) -> float:
    """Return a process's memory in 10^6 bytes: VmRSS, as it is, or VmHWM, the most that it has been."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = re.findall(rf"^{what}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024 / 1e6


def write_payload(num_steps: int) -> dict[str, Any]:
    """Return a job that ends after so many steps, each accepted."""
    params = {"n": N, "max_steps": num_steps, "max_tokens": 131_072, "answer_pattern": None, "seed": 1}
    return {"prompt": "How many shells does Mia have?", "params": params}


async def measure() -> dict[str, Any]:
    """Run everything; return the report."""
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as name, embedded_redis() as redis_url:
        async with start_services(Path(name), redis_url) as services:
            ways = {"one_message": "draft", "message_each": "draft-one-by-one"}
            figures = {way: await measure_way(services, way, draft) for way, draft in ways.items()}
            memory = await measure_memory(services)
        leases = await measure_leases(redis_url)
        rate = measure_file(redis_url, Path(name))
    one, each = figures.values()
    return {
        **describe_conditions(),
        "event_loop": "uvloop" if find_spec("uvloop") else "asyncio",
        "step_ms_alone": one["step_ms_alone"],
        "steps_per_second_one_message": one[f"steps_per_second_{IN_FLIGHT}"],
        "steps_per_second_message_each": each[f"steps_per_second_{IN_FLIGHT}"],
        **memory,
        "first_step_ms": one["first_step_ms"],
        "submit_file_jobs_per_second": rate,
        **leases,
        **{f"{key}_{way}": value for way, of_way in figures.items() for key, value in of_way.items()},
    }


async def measure_way(services: Services, way: str, draft: str) -> dict[str, float]:
    """Measure steps alone and together, with a draft that offers candidates in one way."""
    progress.print(f"steps: {way}")
    figures = {}
    async with start_coordinator(services, f"{way}-alone", 1, draft) as alone:
        figures["step_ms_alone"] = 1000 / (await alone.run(1, 400))["steps_per_second"]
        figures["first_step_ms"] = await alone.first_step_ms(20)
        figures["redis_kb_job_45_steps"] = await alone.kilobytes_of_a_job(45)
    for in_flight in (IN_FLIGHT, MANY_IN_FLIGHT):
        async with start_coordinator(services, f"{way}-{in_flight}", in_flight, draft) as several:
            ran = await several.run(2 * in_flight, 2000 // in_flight)
            figures |= {f"{key}_{in_flight}": value for key, value in ran.items()}
    return figures


async def measure_memory(services: Services) -> dict[str, float]:
    """Measure the coordinator's memory when it has nothing to do, and its most while many jobs wait for the draft."""
    progress.print(f"memory: {MANY_JOBS} jobs")
    async with start_coordinator(services, "memory", MANY_JOBS, "draft-held") as coordinator:
        idle = coordinator.megabytes("VmRSS")
        await coordinator.run(MANY_JOBS, 3)
        return {"coordinator_mb_1000_jobs": coordinator.megabytes("VmHWM"), "coordinator_mb_idle": idle}


async def measure_leases(redis_url: str) -> dict[str, float]:
    """Measure how long a coordinator takes to look at, and to renew, the leases of so many jobs."""
    progress.print(f"leases: {MANY_JOBS} jobs")
    keys = Keys("leases")
    async with AsyncClient(redis_url, keys.queue) as client, aclosing(connect(redis_url)) as redis:
        writer, stream = JobWriter(redis, keys), JobStream(redis, keys, "bench")
        await stream.create_group()
        ids = [job_id async for job_id in client.submit_many([write_payload(1)] * MANY_JOBS)]
        deliveries = await stream.take_new(MANY_JOBS, 1000)
        taken = [await writer.take(job_id, each) for job_id, each in zip(ids, deliveries, strict=True)]
        leases = [lease for lease in taken if lease is not None]
        return {
            f"lease_look_ms_{len(leases)}": await _median_ms(lambda: writer.look_at(leases)),
            f"lease_renewal_ms_{len(leases)}": await _median_ms(lambda: writer.renew(leases)),
        }


async def _median_ms(work: Callable[[], Awaitable[object]]) -> float:
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def measure_file(redis_url: str, folder: Path) -> float:
    """Return how many jobs of a file ``gsi submit`` pushes a second, its own start counted."""
    progress.print(f"submission: {FILE_JOBS} jobs")
    file = folder / "jobs.jsonl"
    file.write_text("".join(_write_lines(FILE_JOBS)))
    command = [sys.executable, "-c", "from gsi.cli.main import main; main()"]
    arguments = ["submit", "--file", str(file), "--redis-url", redis_url, "--queue", "file"]
    started = time.perf_counter()
    ran = subprocess.run([*command, *arguments], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    if len(set(ran.stdout.split())) != FILE_JOBS:
        raise RuntimeError("not every job has an id")
    return FILE_JOBS / seconds


def _write_lines(num_jobs: int) -> Iterator[str]:
    """Yield jobs of a data set: a problem and a seed each."""
    for number in range(num_jobs):
        prompt = f"On Sunday Mia has {number} shells. On Monday Tom gives her 11 shells. How many does Mia have?"
        yield json.dumps({"prompt": prompt, "params": {"n": 4, "seed": number}}) + "\n"


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    others = [key for key, value in report.items() if isinstance(value, float) and key not in GOALS]
    head = (
        f"No-op engines, n = {N}; coordinator, draft, target, PRM and Redis share {report['machine']}; "
        f"{report['event_loop']}'s event loop; {report['date']}. Steps a second: {IN_FLIGHT} jobs in flight."
    )
    return "\n\n".join([head, figures_table(report, list(GOALS), GOALS), figures_table(report, others, {})]) + "\n"


def figures_table(report: Mapping[str, Any], keys: Sequence[str], goals: Mapping[str, str]) -> str:
    """Return figures of a report as a table, with their goals."""
    return write_table(
        [
            Column("figure", [f"`{key}`" for key in keys], is_number=False),
            Column("measured", [f"{report[key]:.3g}" if report[key] < 1000 else f"{report[key]:,.0f}" for key in keys]),
            Column("goal", [goals.get(key, "-") for key in keys], is_number=False),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one object and leave RESULTS.md unchanged")
    given = parser.parse_args()
    publish(asyncio.run(measure()), HEADING, format_report, as_json=given.json)


if __name__ == "__main__":
    main()
