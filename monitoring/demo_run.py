"""A run that leaves something to see in every panel: answers, and then everything that goes wrong.

Real processes throughout: an embedded Redis, draft, target and PRM on vLLM's build for CPUs, coordinators of two
queues. The first half is undisturbed, so that the steps counted can be compared with the steps kept. In the second half
a coordinator is killed, another is stopped for longer than its lease, jobs are cancelled, refused, too late or wrong,
and the second queue's coordinator has so short a deadline that its jobs die.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsi.client.sdk import Client
from gsi.errors import MisconfiguredError, RetryableError
from gsi.jobs.connection import RedisAccess
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.child_process import ChildProcess, Report
from gsi.local.demo import held_out_problems
from gsi.local.embedded_redis import embedded_redis
from gsi.local.stack import ROLES, coordinator_environments, service_environments
from monitoring.prometheus_server import SCRAPE_SECONDS, Target

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv" / "bin" / "python"
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"

QUEUE, HURRIED = "default", "hurried"
NAMESPACE, RELEASE = "gsi", "demo"  # as the chart's PodMonitors would say
LEASE_SECONDS = 3.0
SETTINGS = {"GSI_COORDINATOR_LEASE_SECONDS": str(LEASE_SECONDS), "GSI_COORDINATOR_RETRY_SECONDS": "1"}
HURRIED_SETTINGS = {
    **SETTINGS,
    "GSI_COORDINATOR_DRAFT_TIMEOUT_SECONDS": "0.1",  # a fraction of what so many candidates take
    "GSI_COORDINATOR_MAX_ATTEMPTS": "2",
    "GSI_COORDINATOR_MAX_JOBS_PER_TENANT": "1",
}
MANY_CANDIDATES = {"n": 128}
MOST_CANDIDATES = {"n": 256}
MEASURED = {"gsi": 40, "rsd": 8, "soft-best-of-n:target": 12}  # jobs by method
DISTURBED = 40
LEFT = 40  # jobs that are still at work when the questions are asked: more than are done in the time
STOPPED_SECONDS = 2 * LEASE_SECONDS
SETTLE_SECONDS = 5 * SCRAPE_SECONDS  # until a counter that has changed is in Prometheus for certain


@dataclass(frozen=True, slots=True)
class System:
    """The running system, and where each process serves its metrics."""

    redis_url: str
    processes: Mapping[str, ChildProcess]
    targets: Sequence[Target]


@dataclass(frozen=True, slots=True)
class Run:
    """What was run, in seconds since 1970: ``settled`` is when the measured jobs' steps were counted and no others."""

    started: float
    settled: float
    ended: float
    measured: Sequence[JobRecord]


@asynccontextmanager
async def system(folder: Path, report: Report) -> AsyncIterator[System]:
    """Start everything and yield at once; ``ready`` waits for it. ``folder`` (it exists) gets the logs."""
    if not VLLM_PYTHON.exists():
        raise MisconfiguredError(f"{VLLM_PYTHON} is missing: make test-vllm makes it")
    with embedded_redis() as redis_url:
        environments = service_environments(None, "vllm")
        shared = {f"GSI_COORDINATOR_{role.upper()}": environments[role][f"GSI_{role.upper()}_LISTEN"] for role in ROLES}
        settings = {QUEUE: SETTINGS, HURRIED: HURRIED_SETTINGS}
        for queue, number in ((QUEUE, 2), (HURRIED, 1)):
            for name, own in coordinator_environments(redis_url, queue, number).items():
                environments[f"{name}-{queue}"] = own | shared | settings[queue]
        processes = {
            name: ChildProcess(name, _command(name), own, folder / f"{name}.log", report)
            for name, own in environments.items()
        }
        try:
            yield System(redis_url, processes, [_target(name, own) for name, own in environments.items()])
        finally:
            for group in (set(processes) - set(ROLES), ROLES):
                await asyncio.gather(*(processes[name].stop() for name in group))


async def run(running: System, progress: Callable[[str], None]) -> Run:
    """Start the processes, run the jobs, do the harm. Raises MisconfiguredError if a part does not start."""
    progress("starting three vLLM engines and three coordinators")
    await asyncio.gather(*(process.start() for process in running.processes.values()))
    started = time.time()
    async with AsyncExitStack() as exits:
        clients = [
            await exits.enter_async_context(Client(running.redis_url, queue, RedisAccess()))
            for queue in (QUEUE, HURRIED)
        ]
        progress(f"{sum(MEASURED.values())} jobs that nothing disturbs")
        measured = await _measured(clients[0])
        await asyncio.sleep(SETTLE_SECONDS)
        settled = time.time()
        progress("everything that goes wrong")
        await _disturbed(running, *clients)
        for seed, problem in enumerate(held_out_problems(LEFT, skip=sum(MEASURED.values()) + DISTURBED)):
            await clients[0].submit({"prompt": problem["prompt"], "params": {"n": 4, "seed": seed}})
        await asyncio.sleep(SETTLE_SECONDS)
    return Run(started, settled, time.time(), measured)


async def _measured(client: Client) -> list[JobRecord]:
    methods = [method for method, count in MEASURED.items() for _ in range(count)]
    problems = held_out_problems(len(methods))
    ids = [
        await client.submit({"prompt": problem["prompt"], "params": {"method": method, "n": 4, "seed": seed}})
        for seed, (problem, method) in enumerate(zip(problems, methods, strict=True))
    ]
    return list(await asyncio.gather(*(client.wait(job_id) for job_id in ids)))


async def _disturbed(running: System, client: Client, hurried: Client) -> None:
    """Push jobs that go wrong among many that do not; kill one coordinator and stop the other for a while."""
    problems = held_out_problems(DISTURBED, skip=sum(MEASURED.values()))
    prompts = [problem["prompt"] for problem in problems]
    dead = [
        await hurried.submit({"prompt": prompt, "params": MOST_CANDIDATES, "tenant": "batch"}) for prompt in prompts[:3]
    ]
    late = await client.submit({"prompt": prompts[0], "params": MANY_CANDIDATES, "deadline_seconds": 0.5})
    wrong = await client.submit({"prompt": prompts[0], "params": {"temperature": 0.3}})
    cancelled = await client.submit({"prompt": prompts[0], "params": MANY_CANDIDATES})
    ids = [await client.submit({"prompt": prompt, "params": {"n": 4, "seed": 1}}) for prompt in prompts]
    await _running(client, cancelled)
    await client.cancel(cancelled, "to be seen")
    await _refuse_one(client, prompts[0])
    await _running(client, ids[2])
    os.kill(running.processes[f"coordinator-2-{QUEUE}"].pid, signal.SIGKILL)
    await _running(client, ids[DISTURBED // 2])
    stopped = running.processes[f"coordinator-1-{QUEUE}"].pid
    os.kill(stopped, signal.SIGSTOP)
    await asyncio.sleep(STOPPED_SECONDS)
    os.kill(stopped, signal.SIGCONT)
    expected = dict.fromkeys(ids, JobState.SUCCEEDED) | {wrong: JobState.FAILED, late: JobState.EXPIRED}
    expected |= {cancelled: JobState.CANCELLED}
    await _end_as(client, expected)
    await _end_as(hurried, dict.fromkeys(dead, JobState.DEAD))


async def _refuse_one(client: Client, prompt: str) -> None:
    await client.admin.limit(1)
    try:
        await client.submit({"prompt": prompt})
    except RetryableError:
        return
    finally:
        await client.admin.limit(None)
    raise MisconfiguredError("a full queue took a job")


async def _running(client: Client, job_id: str) -> None:
    """Return once a job has been taken."""
    while (await client.result(job_id)).state is JobState.QUEUED:
        await asyncio.sleep(0.1)


async def _end_as(client: Client, expected: Mapping[str, JobState]) -> None:
    """Wait for jobs; raise MisconfiguredError if one does not end as it shall."""
    for job_id, state in expected.items():
        record = await client.wait(job_id)
        if record.state is not state:
            raise MisconfiguredError(f"a job that shall be {state} is {record.state}: {record.fields.get('error')}")


def _command(name: str) -> list[str]:
    kind = name.partition("-")[0]
    return [str(VLLM_PYTHON if kind in ROLES else PYTHON), "-m", f"services.{kind}"]


def _target(name: str, environment: Mapping[str, Any]) -> Target:
    """Return what the chart's PodMonitor would scrape: labels from the pod's labels."""
    address = next(value for key, value in environment.items() if key.endswith("_METRICS_LISTEN"))
    queue = environment.get("GSI_COORDINATOR_QUEUE")
    labels = {"namespace": NAMESPACE, "release": RELEASE, "role": name.partition("-")[0]}
    return Target(address, labels | ({"queue": queue} if queue else {}))
