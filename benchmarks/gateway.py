"""What the gateway costs: ``make bench-gateway``, about two minutes.

A real gateway, coordinator, Redis and model services, each in a process of its own; the engines answer at once
(``benchmarks/no_op_engines.py``), so all that is measured is not a model. The client is ``benchmarks/http_load.py``,
in the process of the benchmark: it costs a fraction of a millisecond a request, and shares the same processors.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.batching import read_processor_seconds
from benchmarks.coordinator import N, figures_table, read_megabytes, start_services
from benchmarks.http_load import Arrival, Connection, write_request
from benchmarks.page_size import page_kilobytes
from benchmarks.processes import ignore, running_process
from benchmarks.results import describe_conditions, progress, publish
from gsi.client.sdk import AsyncClient
from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys
from gsi.local.child_process import ChildProcess
from gsi.local.embedded_redis import embedded_redis, free_port
from gsi.local.stack import coordinator_environments, make_process

HEADING = "The gateway's own cost (`make bench-gateway`)"
QUEUE = "gateway"
PATH = "/v1/chat/completions"
IN_FLIGHT = 64
NUM_ALONE = 200
NUM_TOGETHER = 3000
NUM_STREAMS = 2000
NUM_FIRST_BYTES = 100
PROMPT = "How many shells does Mia have?"
GOALS = {
    "added_ms": "at most 5",
    "completions_per_second": "at least 300",
    "mb_2000_streams": "at most 300",
    "first_byte_ms": "at most 20",
    "page_kb": "under 300",
}


@dataclass(frozen=True, slots=True)
class System:
    """The running system. ``pids`` are those of its processes, by name; Redis tells its own seconds."""

    url: str
    client: AsyncClient
    redis: Any
    keys: Keys
    pids: Mapping[str, int]

    async def processor_seconds(self) -> dict[str, float]:
        """Return what each process has used of a processor."""
        used = await self.redis.info("cpu")
        seconds = {name: read_processor_seconds(pid) for name, pid in self.pids.items()}
        return {**seconds, "redis": float(used["used_cpu_user"] + used["used_cpu_sys"]), "client": time.process_time()}


@asynccontextmanager
async def start_system(folder: Path, redis_url: str) -> AsyncIterator[System]:
    """Run services, a coordinator and a gateway."""
    url = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(start_services(folder, redis_url, ("draft", "target", "prm")))
        (environment,) = coordinator_environments(redis_url, QUEUE, 1).values()
        addresses = {f"GSI_COORDINATOR_{role.upper()}": address for role, address in services.addresses.items()}
        settings = {**environment, **addresses, "GSI_COORDINATOR_MAX_JOBS": str(IN_FLIGHT)}
        coordinator = make_process("coordinator-1", settings, folder / "coordinator", ignore, None)
        gateway = ChildProcess(
            "gateway",
            [sys.executable, "-m", "services.gateway"],
            {
                "GSI_GATEWAY_LISTEN": url,
                "GSI_GATEWAY_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
                "GSI_GATEWAY_REDIS_URL": redis_url,
                "GSI_GATEWAY_QUEUE": QUEUE,
                "GSI_GATEWAY_LOG_FORMAT": "json",
            },
            folder / "gateway",
            ignore,
        )
        for process in (coordinator, gateway):
            await stack.enter_async_context(running_process(process))
        client = await stack.enter_async_context(AsyncClient(redis_url, QUEUE))
        redis = await stack.enter_async_context(aclosing(connect(redis_url)))
        processes = {"gateway": gateway, "coordinator": coordinator, **services.processes}
        pids = {name: process.pid for name, process in processes.items()}
        yield System(f"http://{url}", client, redis, Keys(QUEUE), pids)


def make_request(url: str, *, model: str = "gsi", n: int = N, num_steps: int = 1, is_stream: bool = False) -> bytes:
    """Return a chat completion of so many steps."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
    return write_request(url, PATH, {**body, "stream": is_stream, "gsi": {"n": n, "max_steps": num_steps, "seed": 1}})


async def measure_added(system: System) -> dict[str, float]:
    """Measure a completion through HTTP, and the same job by the SDK, in turn, one at a time."""
    progress.print("alone: HTTP and SDK in turn")
    messages = [{"role": "user", "content": PROMPT}]
    payload = {"messages": messages, "params": {"n": N, "max_steps": 1, "seed": 1}}
    request, by_http, by_sdk = make_request(system.url), [], []
    async with Connection.to(system.url) as connection:
        for number in range(NUM_ALONE + 10):
            started = time.perf_counter()
            await connection.ask(request)
            asked = time.perf_counter()
            await system.client.wait(await system.client.submit(payload))
            if number >= 10:  # the first ones warm up
                by_http.append(1000 * (asked - started))
                by_sdk.append(1000 * (time.perf_counter() - asked))
    return {
        "added_ms": statistics.median(by_http) - statistics.median(by_sdk),
        "alone_http_ms": statistics.median(by_http),
        "alone_http_ms_p99": p99(by_http),
        "alone_sdk_ms": statistics.median(by_sdk),
        "alone_sdk_ms_p99": p99(by_sdk),
    }


async def measure_rate(system: System, n: int, num_completions: int, model: str = "gsi") -> dict[str, float]:
    """Measure completions a second with many clients, and what each process does for one."""
    progress.print(f"together: {IN_FLIGHT} clients, {model}, n = {n}")
    request, waits, numbers = make_request(system.url, model=model, n=n), [], iter(range(num_completions))

    async def ask_again() -> None:
        async with Connection.to(system.url) as connection:
            for _ in numbers:
                started = time.perf_counter()
                await connection.ask(request)
                waits.append(1000 * (time.perf_counter() - started))

    before, started = await system.processor_seconds(), time.perf_counter()
    await asyncio.gather(*(ask_again() for _ in range(IN_FLIGHT)))
    seconds, after = time.perf_counter() - started, await system.processor_seconds()
    used = {f"cpu_ms_{name}": 1000 * (after[name] - before[name]) / num_completions for name in after}
    return {
        "completions_per_second": num_completions / seconds,
        "together_ms_p50": statistics.median(waits),
        "together_ms_p99": p99(waits),
        **used,
        "cpu_ms_all": sum(used.values()),
    }


async def measure_first_bytes(system: System) -> dict[str, float]:
    """Measure the time from the first kept step, by Redis's clock of this machine, to its chunk at the client.

    A step's entry has whole milliseconds, so the time is up to one too long.
    """
    progress.print("first bytes of streams")
    request, waits = make_request(system.url, num_steps=3, is_stream=True), []
    async with Connection.to(system.url) as connection:
        for _ in range(NUM_FIRST_BYTES):
            arrivals = [arrival async for arrival in connection.stream(request)]
            first = next(arrival for arrival in arrivals if _text_of(arrival))
            job_id = f"{first.event['id'].removeprefix('chatcmpl-')}-0"
            ((entry, _),) = await system.redis.xrange(system.keys.steps(job_id), count=1)
            waits.append(first.at_ms - int(entry.split(b"-")[0]))
    return {"first_byte_ms": statistics.median(waits), "first_byte_ms_p99": p99(waits)}


async def measure_streams(system: System) -> dict[str, float]:
    """Measure the gateway's most memory with many open streams, from the first to the end of the last."""
    progress.print(f"memory: {NUM_STREAMS} streams")
    pid, request = system.pids["gateway"], make_request(system.url, is_stream=True)
    idle, opened, is_open = read_megabytes(pid, "VmRSS"), 0, asyncio.Event()

    async def read_stream() -> None:
        nonlocal opened
        async with Connection.to(system.url) as connection:
            arrivals = connection.stream(request)
            await anext(arrivals)
            opened += 1
            if opened == NUM_STREAMS:
                is_open.set()
            texts = [_text_of(arrival) async for arrival in arrivals]
            if not any(texts):
                raise RuntimeError("a stream ended without a step")

    await system.client.admin.pause()  # so that the jobs wait until all streams are open
    async with asyncio.TaskGroup() as group:
        started = time.perf_counter()
        for _ in range(NUM_STREAMS):
            group.create_task(read_stream())
        await is_open.wait()
        figures = {"streams_opened_per_second": NUM_STREAMS / (time.perf_counter() - started)}
        figures["mb_2000_streams_waiting"] = read_megabytes(pid, "VmRSS")
        figures["idle_cpu_percent_2000_streams"] = await _processor_percent(pid)
        await system.client.admin.resume()
    return {"mb_2000_streams": read_megabytes(pid, "VmHWM"), "mb_idle": idle, **figures}


async def _processor_percent(pid: int, seconds: float = 4.0) -> float:
    """Return how much of a processor a process uses meanwhile."""
    before = read_processor_seconds(pid)
    await asyncio.sleep(seconds)
    return 100 * (read_processor_seconds(pid) - before) / seconds


def _text_of(arrival: Arrival) -> str:
    choices = arrival.event.get("choices") or []
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


async def measure() -> dict[str, Any]:
    """Run everything; return the report."""
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as name, embedded_redis() as redis_url:
        async with start_system(Path(name), redis_url) as system:
            figures = {"page_kb": await asyncio.to_thread(page_kilobytes, f"{system.url}/")}
            figures |= await measure_added(system)
            figures |= await measure_first_bytes(system)
            await measure_rate(system, N, 300)  # warms up
            figures |= await measure_rate(system, N, NUM_TOGETHER)
            small = await measure_rate(system, 4, NUM_TOGETHER)
            figures |= {f"{name}_n_4": small[name] for name in ("completions_per_second", "cpu_ms_all")}
            alone = await measure_rate(system, 1, NUM_TOGETHER, model="gsi:target")  # one call of a service a step
            figures |= {f"{name}_target_alone": alone[name] for name in ("completions_per_second", "cpu_ms_all")}
            figures |= await measure_streams(system)
    loop = "uvloop" if find_spec("uvloop") else "asyncio"
    return {**describe_conditions(), "event_loop": loop, **figures}


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    others = [key for key, value in report.items() if isinstance(value, float) and key not in GOALS]
    head = (
        f"No-op engines, n = {N}; gateway, coordinator, draft, target, PRM, Redis and the client share "
        f"{report['machine']}; {report['event_loop']}'s event loop; {report['date']}. Together: {IN_FLIGHT} "
        "connections, each of which asks again as soon as it is answered. `cpu_ms_…`: what a process used for one "
        "completion."
    )
    goals = [key for key in GOALS if key in report]
    return "\n\n".join([head, figures_table(report, goals, GOALS), figures_table(report, others, {})]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one object and leave RESULTS.md unchanged")
    given = parser.parse_args()
    publish(asyncio.run(measure()), HEADING, format_report, as_json=given.json)


if __name__ == "__main__":
    main()
