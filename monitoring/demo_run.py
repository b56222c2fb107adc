"""A run that gives every panel data: first undisturbed jobs, then jobs with every kind of fault.

All processes are real: an embedded Redis, draft, target and PRM on vLLM's CPU build, coordinators and exporters of two
queues, and a gateway in front of both (``gateway_run.py``).
The first half is undisturbed, so that the check can compare counted steps with kept steps. In the second half a
coordinator is killed, another is stopped for longer than its lease, and jobs are cancelled, refused, late or invalid.
The second queue's coordinator has such short deadlines for its calls that its jobs die.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsi.client.sdk import AsyncClient
from gsi.errors import MisconfiguredError, RetryableError
from gsi.jobs.connection import RedisAccess, connect
from gsi.jobs.keys import Priority
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.child_process import ChildProcess, Report
from gsi.local.demo import held_out_problems
from gsi.local.embedded_redis import embedded_redis
from gsi.local.stack import ROLES, coordinator_environments, service_environments
from monitoring.gateway_run import GatewayUnderTest, ask_gateway, exporter_environment, make_gateway
from monitoring.prometheus_server import SCRAPE_SECONDS, Target

PYTHON = Path(__file__).parents[1] / ".venv" / "bin" / "python"
VLLM_PYTHON = Path(__file__).parents[1] / ".venv-vllm" / "bin" / "python"

MAIN_QUEUE, HURRIED_QUEUE = "default", "hurried"
NAMESPACE, RELEASE = "gsi", "demo"  # labels that the chart's PodMonitor would add
LEASE_SECONDS = 3.0
SETTINGS = {"GSI_COORDINATOR_LEASE_SECONDS": str(LEASE_SECONDS), "GSI_COORDINATOR_RETRY_SECONDS": "1"}
HURRIED_SETTINGS = {
    **SETTINGS,
    "GSI_COORDINATOR_DRAFT_TIMEOUT_SECONDS": "0.1",  # a fraction of the time for MOST_CANDIDATES
    "GSI_COORDINATOR_MAX_ATTEMPTS": "2",
    "GSI_COORDINATOR_MAX_JOBS_PER_TENANT": "1",
}
MANY_CANDIDATES = {"n": 128}
MOST_CANDIDATES = {"n": 256}
MEASURED = {"gsi": 40, "rsd": 8, "soft-best-of-n:target": 12}  # jobs by method
NUM_DISTURBED = 40
TENANTS = ("algebra", "geometry", "olympiad")
MAX_MEMORY = "256mb"  # of Redis
NUM_UNFINISHED = 40  # jobs in flight during the check: more than finish in that time
STOPPED_SECONDS = 2 * LEASE_SECONDS
SETTLE_SECONDS = 5 * SCRAPE_SECONDS  # until a changed counter is certain to be in Prometheus


@dataclass(frozen=True, slots=True)
class System:
    """The running system, and where each process serves its metrics."""

    redis_url: str
    gateway: GatewayUnderTest
    processes: Mapping[str, ChildProcess]
    targets: Sequence[Target]


@dataclass(frozen=True, slots=True)
class DemoRun:
    """The times of a run, in seconds since 1970, and its measured jobs.

    At ``settled`` the counters had all steps of the measured jobs and no other steps.
    """

    started: float
    settled: float
    ended: float
    measured: Sequence[JobRecord]


@asynccontextmanager
async def start_system(folder: Path, report: Report) -> AsyncIterator[System]:
    """Start Redis and yield the system with its processes, which ``run_jobs`` starts; stop all of it at the end.

    Logs go to ``folder``, which must exist. Raises MisconfiguredError if vLLM's environment is missing.
    """
    if not VLLM_PYTHON.exists():
        raise MisconfiguredError(f"{VLLM_PYTHON} is missing: make test-vllm creates it")
    with embedded_redis() as redis_url:
        environments = service_environments(None, "vllm")
        shared = {f"GSI_COORDINATOR_{role.upper()}": environments[role][f"GSI_{role.upper()}_LISTEN"] for role in ROLES}
        settings = {MAIN_QUEUE: SETTINGS, HURRIED_QUEUE: HURRIED_SETTINGS}
        for queue, number in ((MAIN_QUEUE, 2), (HURRIED_QUEUE, 1)):
            for name, own in coordinator_environments(redis_url, queue, number).items():
                environments[f"{name}-{queue}"] = own | shared | settings[queue]
            environments[f"exporter-{queue}"] = exporter_environment(redis_url, queue)
        gateway = make_gateway(folder, redis_url, MAIN_QUEUE, HURRIED_QUEUE)
        environments["gateway"] = gateway.environment
        processes = {
            name: ChildProcess(name, _build_command(name), own, folder / f"{name}.log", report)
            for name, own in environments.items()
        }
        try:
            targets = [_build_scrape_target(name, own) for name, own in environments.items()]
            yield System(redis_url, gateway, processes, targets)
        finally:
            for group in (set(processes) - set(ROLES), ROLES):
                await asyncio.gather(*(processes[name].stop() for name in group))


async def run_jobs(running: System, progress: Callable[[str], None]) -> DemoRun:
    """Start the processes, run the jobs and cause the faults. Raises MisconfiguredError if a process does not start."""
    progress("starting three vLLM engines, three coordinators, two exporters and a gateway")
    await asyncio.gather(*(process.start() for process in running.processes.values()))
    async with aclosing(connect(running.redis_url)) as redis:
        await redis.config_set("maxmemory", MAX_MEMORY)
    started = time.time()
    async with AsyncExitStack() as exits:
        clients = [
            await exits.enter_async_context(AsyncClient(running.redis_url, queue, RedisAccess()))
            for queue in (MAIN_QUEUE, HURRIED_QUEUE)
        ]
        progress(f"running {sum(MEASURED.values())} undisturbed jobs")
        measured = await _run_measured_jobs(clients[0])
        await asyncio.sleep(SETTLE_SECONDS)
        settled = time.time()
        progress("asking the gateway")
        await ask_gateway(running.gateway)
        progress("running jobs with faults")
        await _run_disturbed_jobs(running, *clients)
        problems = held_out_problems(NUM_UNFINISHED, skip=sum(MEASURED.values()) + NUM_DISTURBED)
        for seed, problem in enumerate(problems):
            await clients[0].submit({"prompt": problem["prompt"], "params": {"n": 4, "seed": seed}} | _belongs(seed))
        await asyncio.sleep(SETTLE_SECONDS)
    return DemoRun(started, settled, time.time(), measured)


async def _run_measured_jobs(client: AsyncClient) -> list[JobRecord]:
    methods = [method for method, count in MEASURED.items() for _ in range(count)]
    problems = held_out_problems(len(methods))
    ids = [
        await client.submit(
            {"prompt": problem["prompt"], "params": {"method": method, "n": 4, "seed": seed}} | _belongs(seed)
        )
        for seed, (problem, method) in enumerate(zip(problems, methods, strict=True))
    ]
    return list(await asyncio.gather(*(client.wait(job_id) for job_id in ids)))


def _belongs(number: int) -> dict[str, str]:
    """Return tenant and lane of a job, so that each tenant and each lane has some."""
    lanes = (Priority.NORMAL, Priority.NORMAL, Priority.HIGH, Priority.NORMAL, Priority.LOW)
    return {"tenant": TENANTS[number % len(TENANTS)], "priority": lanes[number % len(lanes)].value}


async def _run_disturbed_jobs(running: System, client: AsyncClient, hurried: AsyncClient) -> None:
    """Submit faulty jobs among many good jobs; kill one coordinator and stop the other for a while."""
    problems = held_out_problems(NUM_DISTURBED, skip=sum(MEASURED.values()))
    prompts = [problem["prompt"] for problem in problems]
    dead = [
        await hurried.submit({"prompt": prompt, "params": MOST_CANDIDATES, "tenant": "batch"}) for prompt in prompts[:3]
    ]
    late = await client.submit({"prompt": prompts[0], "params": MANY_CANDIDATES, "deadline_seconds": 0.5})
    wrong = await client.submit({"prompt": prompts[0], "params": {"temperature": 0.3}})
    cancelled = await client.submit({"prompt": prompts[0], "params": MANY_CANDIDATES})
    ids = [await client.submit({"prompt": prompt, "params": {"n": 4, "seed": 1}}) for prompt in prompts]
    await _wait_until_taken(client, cancelled)
    await client.cancel(cancelled, "to be seen")
    await _refuse_one(client, prompts[0])
    await _wait_until_taken(client, ids[2])
    os.kill(running.processes[f"coordinator-2-{MAIN_QUEUE}"].pid, signal.SIGKILL)
    await _wait_until_taken(client, ids[NUM_DISTURBED // 2])
    stopped = running.processes[f"coordinator-1-{MAIN_QUEUE}"].pid
    os.kill(stopped, signal.SIGSTOP)
    await asyncio.sleep(STOPPED_SECONDS)
    os.kill(stopped, signal.SIGCONT)
    expected = dict.fromkeys(ids, JobState.SUCCEEDED) | {wrong: JobState.FAILED, late: JobState.EXPIRED}
    expected |= {cancelled: JobState.CANCELLED}
    await _wait_for_states(client, expected)
    await _wait_for_states(hurried, dict.fromkeys(dead, JobState.DEAD))


async def _refuse_one(client: AsyncClient, prompt: str) -> None:
    """Make the queue refuse a submission because it is full."""
    await client.admin.limit(1)
    try:
        await client.submit({"prompt": prompt})
    except RetryableError:
        return
    finally:
        await client.admin.limit(None)
    raise MisconfiguredError("a full queue accepted a job")


async def _wait_until_taken(client: AsyncClient, job_id: str) -> None:
    while (await client.result(job_id)).state is JobState.QUEUED:
        await asyncio.sleep(0.1)


async def _wait_for_states(client: AsyncClient, expected: Mapping[str, JobState]) -> None:
    """Wait for jobs to finish. Raises MisconfiguredError if a job ends in another state than expected."""
    for job_id, state in expected.items():
        record = await client.wait(job_id)
        if record.state is not state:
            raise MisconfiguredError(f"a job ended {record.state}, expected {state}: {record.fields.get('error')}")


def _build_command(name: str) -> list[str]:
    kind = name.partition("-")[0]
    return [str(VLLM_PYTHON if kind in ROLES else PYTHON), "-m", f"services.{kind}"]


def _build_scrape_target(name: str, environment: Mapping[str, Any]) -> Target:
    """Return the target that the chart's PodMonitor would scrape, with its labels."""
    address = next(value for key, value in environment.items() if key.endswith("_METRICS_LISTEN"))
    queue = environment.get("GSI_COORDINATOR_QUEUE") or environment.get("GSI_EXPORTER_QUEUE")
    labels = {"namespace": NAMESPACE, "release": RELEASE, "role": name.partition("-")[0]}
    return Target(address, labels | ({"queue": queue} if queue else {}))
