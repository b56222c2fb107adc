"""``gsi demo``: runs held-out problems through the whole system and reports the answers."""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gsi.algorithm.candidates import Outcome
from gsi.client.sdk import Client
from gsi.errors import MisconfiguredError
from gsi.jobs.connection import RedisAccess
from gsi.jobs.reader import JobRecord
from gsi.local.child_process import Report
from gsi.local.stack import SHIPPED_MODELS, local_stack

EXAMPLE_PROBLEM = (
    "On Sunday Mia has 7 shells. On Monday Tom brings her 4 bags of 3 shells. On Tuesday she loses 9 shells. "
    "On Wednesday she doubles the shells. How many shells does Mia have at the end?"
)
STEP_FIELDS = (
    "source",
    "outcome",
    "reward",
    "tilted_reward",
    "log_likelihood_draft",
    "log_likelihood_target",
    "text",
    "rejected",
)


def held_out_problems(count: int, skip: int = 0) -> list[dict[str, str]]:
    """Return problems, each with prompt and expected answer, that no shipped model was trained on."""
    path = SHIPPED_MODELS / "heldout.jsonl"
    if not path.exists():
        raise MisconfiguredError(f"{path} is missing: make train writes it")
    lines = path.read_text().splitlines()[skip : skip + count]
    return [json.loads(line) for line in lines]


async def run_demo(
    params: Mapping[str, Any],
    num_problems: int,
    report: Report,
    on_finished: Callable[[], None],
    engine: str | None = None,
) -> dict[str, Any]:
    """Start the system, run the problems through the queue, and return parameters, jobs and totals.

    ``on_finished`` is called once for each job, when it has finished.
    """
    problems = held_out_problems(num_problems)
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="gsi-demo-")))
        stack = await exits.enter_async_context(local_stack(folder, report, engine=engine))
        client = await exits.enter_async_context(Client(stack.redis_url, access=RedisAccess()))
        started = time.perf_counter()
        ids = [
            await client.submit({"prompt": problem["prompt"], "params": {**params, "seed": index}})
            for index, problem in enumerate(problems)
        ]
        records = await asyncio.gather(*(_wait_for_job(client, job_id, on_finished) for job_id in ids))
        seconds = time.perf_counter() - started
    jobs = [_to_dict(record, problem) for record, problem in zip(records, problems, strict=True)]
    return {"params": dict(params), "jobs": jobs, "totals": totals(records, jobs, seconds)}


async def _wait_for_job(client: Client, job_id: str, on_finished: Callable[[], None]) -> JobRecord:
    record = await client.wait(job_id)
    on_finished()
    return record


def _to_dict(record: JobRecord, problem: Mapping[str, str]) -> dict[str, Any]:
    job = record.to_dict()
    return {
        "id": job["id"],
        "prompt": problem["prompt"],
        "answer": job["answer"],
        "expected": problem["expected"],
        "correct": job["answer"] == problem["expected"],
        "state": job["state"],
        "stop_reason": job["stop_reason"],
        "error": job["error"],
        "steps": [{name: step[name] for name in STEP_FIELDS} for step in job["steps"]],
    }


def totals(records: Sequence[JobRecord], jobs: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Return the totals of a run. ``seconds_per_step`` includes the time that other jobs took from the models."""
    steps = [step for record in records for step in record.steps]
    num_steps = max(1, len(steps))
    return {
        "accuracy": sum(job["correct"] for job in jobs) / max(1, len(jobs)),
        "acceptance_rate": sum(record.outcome is Outcome.ACCEPTED for record in steps) / num_steps,
        "seconds_per_step": sum(record.seconds for record in steps) / num_steps,
        "draft_tokens": sum(record.draft_tokens for record in steps),
        "target_tokens": sum(record.target_tokens for record in steps),
        "seconds": seconds,
    }
