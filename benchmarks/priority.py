"""Are steps shorter if the target scores before it writes? ``.venv-vllm/bin/python -m benchmarks.priority``.

Eight GSI jobs run at once on a target with room for eight requests, twice under each scheduling policy, in both orders.
The models are the *trained* models of ``benchmarks.step``: the same seeds give the same steps under both policies.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.step import DEMO_PROBLEMS, TRAINED, make_models
from gsi.algorithm.candidates import Outcome
from gsi.client.sdk import AsyncClient
from gsi.jobs.reader import JobRecord
from gsi.local.demo import held_out_problems
from gsi.local.stack import local_stack

NUM_JOBS, NUM_PROBLEMS, N = 8, 24, 8
ORDER = ("fcfs", "priority", "priority", "fcfs")


async def measure_policy(policy: str, models: Path, folder: Path) -> dict[str, Any]:
    """Return the seconds of all problems, and the mean seconds of all, of accepted and of resampled steps."""
    settings = {
        "GSI_TARGET_ENGINE_ARGS": f"--max-num-seqs {NUM_JOBS} --scheduling-policy {policy}",
        "GSI_COORDINATOR_MAX_JOBS": str(NUM_JOBS),
    }
    stack = local_stack(folder, lambda *_: None, models=models, engine="vllm", settings=settings)
    async with stack as running, AsyncClient(running.redis_url) as client:
        await answer_problems(client, 2)  # warms up
        started = time.perf_counter()
        records = await answer_problems(client, NUM_PROBLEMS)
        seconds = time.perf_counter() - started
    steps = [step for record in records for step in record.steps]
    accepted = [step.seconds for step in steps if step.outcome is Outcome.ACCEPTED]
    resampled = [step.seconds for step in steps if step.outcome is Outcome.RESAMPLED]
    return {
        "policy": policy,
        "seconds": seconds,
        "steps": len(steps),
        "seconds_per_step": statistics.fmean([*accepted, *resampled]),
        "seconds_per_accepted_step": statistics.fmean(accepted),
        "seconds_per_resampled_step": statistics.fmean(resampled),
    }


async def answer_problems(client: AsyncClient, num_problems: int) -> list[JobRecord]:
    """Submit problems all at once and return their finished jobs."""
    problems = held_out_problems(num_problems, skip=DEMO_PROBLEMS)
    ids = [
        await client.submit({"prompt": problem["prompt"], "params": {"n": N, "seed": seed}})
        for seed, problem in enumerate(problems)
    ]
    return list(await asyncio.gather(*(client.wait(job_id) for job_id in ids)))


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as name:
        models = Path(name) / "models"
        make_models(TRAINED, models)
        for number, policy in enumerate(ORDER):
            folder = Path(name) / str(number)
            folder.mkdir()
            print(json.dumps(await measure_policy(policy, models, folder)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
