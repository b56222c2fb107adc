"""What is measured on a running system: calls of each model, steps of each method, the GPUs, the prefix caches."""

import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu.calls import measure_calls
from benchmarks.gpu.checkpoints import MAX_LENGTH, choose_sizes, draw_text, write_checkpoints
from benchmarks.gpu.figures import choose_gpu, predict_calls, predict_steps, summarise
from benchmarks.gpu.parts import Report
from benchmarks.gpu.scrapes import GpuWatch, prefix_hit_rates, read_caches
from benchmarks.gpu.steps import MAX_STEP_TOKENS, NUM_STEPS, PROMPT_TOKENS, N, measure_steps
from gsi.algorithm.ports import Ports
from gsi.client.sdk import AsyncClient
from gsi.local.arrangement import Arrangement, arrange_services
from gsi.local.stack import ROLES, Stack, local_stack
from gsi.planning.architecture import Architecture, Role
from gsi.rpc.clients import DraftClient, PrmClient, TargetClient

ENGINE_ARGS = f"--load-format dummy --max-model-len {MAX_LENGTH}"
TIMEOUT_SECONDS = 120.0
NUM_QUEUED_JOBS = 3
ACCEPTS_ALL = -1000.0  # random weights give rewards near 0.5, and likelihoods that hardly differ


async def measure_system(report: Report, gpus: str | None, num_devices: int) -> None:
    """Start the system on GPUs (None: a rehearsal on the CPU) and report its figures beside the planner's."""
    sizes = choose_sizes(is_rehearsal=gpus is None)
    with tempfile.TemporaryDirectory(prefix="gsi-gpu-") as folder:
        models = write_checkpoints(Path(folder) / "models", sizes)
        arrangement = arrange(gpus, models)
        report.put("placement", list(arrangement.said))
        started = time.perf_counter()
        engine = "vllm" if gpus is None else None
        async with local_stack(
            Path(folder), lambda *_: None, models=models, engine=engine, arrangement=arrangement
        ) as stack:
            report.put("start_seconds", time.perf_counter() - started)
            await _measure(report, stack, sizes, gpus, num_devices)


def arrange(gpus: str | None, models: Path) -> Arrangement:
    """Return how the services start; random weights are an engine argument like those of an operator."""
    names = {role: str(models / role) for role in ROLES}
    environment = {**os.environ, **{f"GSI_{role.upper()}_ENGINE_ARGS": ENGINE_ARGS for role in ROLES}}
    return arrange_services(gpus, None, "vllm" if gpus is None else None, names, environment)


async def _measure(
    report: Report, stack: Stack, sizes: Mapping[Role, Architecture], gpus: str | None, num_devices: int
) -> None:
    gpu = choose_gpu(is_rehearsal=gpus is None)
    report.put("planned_for", gpu.name if gpu else None)
    async with open_clients(stack) as (draft, target, prm):
        ports = Ports(draft, target, prm)
        calls = await measure_calls(ports)
        report.put("calls", predict_calls(calls, sizes, gpu) if gpu else calls)
        before = await read_caches(stack.metrics)
        async with GpuWatch(stack.metrics["target"]) as watch:
            steps = await measure_steps(ports, draft.render)
        report.put("steps", predict_steps(steps, sizes, gpu, num_devices) if gpu else steps)
        report.put("prefix_hit_rates", prefix_hit_rates(before, await read_caches(stack.metrics)))
        report.put("gpus_by_metrics", watch.seen)
    report.put("figures", summarise(steps))
    report.put("seconds_per_step_by_queue", await measure_queued_jobs(stack))


@asynccontextmanager
async def open_clients(stack: Stack) -> AsyncIterator[tuple[DraftClient, TargetClient, PrmClient]]:
    """Connect to the three services."""
    async with AsyncExitStack() as exits:
        draft = DraftClient(stack.addresses["draft"], TIMEOUT_SECONDS)
        target = TargetClient(stack.addresses["target"], TIMEOUT_SECONDS)
        prm = PrmClient(stack.addresses["prm"], TIMEOUT_SECONDS)
        for client in (draft, target, prm):
            exits.push_async_callback(client.close)
        yield draft, target, prm


async def measure_queued_jobs(stack: Stack) -> float:
    """Return the mean seconds of an accepted step of jobs that go through Redis and a coordinator, one at a time."""
    rng, steps = random.Random(2), []
    params: dict[str, Any] = {"n": N, "max_step_tokens": MAX_STEP_TOKENS, "max_steps": NUM_STEPS}
    async with AsyncClient(stack.redis_url) as client:
        for number in range(NUM_QUEUED_JOBS):
            job = {
                "prompt": draw_text(rng, PROMPT_TOKENS),
                "params": {**params, "acceptance_threshold": ACCEPTS_ALL, "seed": number},
            }
            record = await client.wait(await client.submit(job))
            steps += [step.seconds for step in record.steps]
    return sum(steps) / len(steps)
