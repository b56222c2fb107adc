"""``gsi demo``: runs held-out problems through the whole system and reports the answers."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gsi.algorithm.candidates import Outcome
from gsi.algorithm.methods import METHODS
from gsi.client.sdk import AsyncClient
from gsi.errors import MisconfiguredError
from gsi.jobs.connection import RedisAccess
from gsi.jobs.reader import JobRecord
from gsi.local.child_process import Report
from gsi.local.stack import local_stack
from gsi.runtime.installation import SHIPPED_MODELS

ASKED = "GSI"  # by the name of the method, if the caller names one
ALONE = "the target alone"
BEST = "soft best-of-n on the target"
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


def list_ways(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is compared, by name: the job that was asked for, and the target without a draft."""
    return {
        str(params.get("method", ASKED)): dict(params),
        ALONE: {**_keep_parameters(params, "target"), "method": "target"},
        BEST: {**_keep_parameters(params, "soft-best-of-n"), "method": "soft-best-of-n", "role": "target"},
    }


def _keep_parameters(params: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return the parameters that ``method`` has, and those that belong to no method."""
    others = {name for each in METHODS.values() for name in each.parameters} - set(METHODS[method].parameters)
    return {name: value for name, value in params.items() if name not in others | {"method", "role"}}


async def run_demo(
    params: Mapping[str, Any],
    num_problems: int,
    report: Report,
    on_finished: Callable[[], None],
    engine: str | None = None,
) -> dict[str, Any]:
    """Start the system, run the problems through the queue, and return parameters, jobs, totals and a comparison.

    The comparison is of the same problems, answered in the ways of ``list_ways``. There is one job at a time, and the
    ways take turns, so that their seconds can be compared. ``on_finished`` is called once for each finished job.
    """
    problems, ways = held_out_problems(num_problems), list_ways(params)
    records: dict[str, list[JobRecord]] = {name: [] for name in ways}
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="gsi-demo-")))
        stack = await exits.enter_async_context(local_stack(folder, report, engine=engine))
        client = await exits.enter_async_context(AsyncClient(stack.redis_url, access=RedisAccess()))
        for index, problem in enumerate(problems):
            for name, way in ways.items():
                job = {"prompt": problem["prompt"], "params": {**way, "seed": index}}
                records[name].append(await client.wait(await client.submit(job)))
                on_finished()
    jobs = {
        name: [_to_dict(record, problem) for record, problem in zip(of_way, problems, strict=True)]
        for name, of_way in records.items()
    }
    comparison = [{"name": name, "params": ways[name], **totals(records[name], jobs[name])} for name in ways]
    return {
        "params": dict(params),
        "jobs": next(iter(jobs.values())),
        "totals": comparison[0],
        "comparison": comparison,
        "gain": describe_gain(comparison),
    }


def describe_gain(comparison: Sequence[Mapping[str, Any]]) -> str:
    """Say in a sentence what was gained, or lost. The first way is compared with the others."""
    asked, *others = comparison
    pace = [
        f"{other['seconds_per_answer'] / asked['seconds_per_answer']:.1f} times as fast as {other['name']} "
        f"({other['correct']} right)"
        for other in others
    ]
    return (
        f"{asked['name']} gets {asked['correct']} of {asked['problems']} problems right in "
        f"{asked['seconds_per_answer']:.2f} s each: {' and '.join(pace)}."
    )


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
        "seconds": job["finished_at"] - job["started_at"],
        "steps": [{name: step[name] for name in STEP_FIELDS} for step in job["steps"]],
    }


def totals(records: Sequence[JobRecord], jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the totals of jobs that ran one at a time. A job's seconds do not hold its time in the queue."""
    steps = [step for record in records for step in record.steps]
    num_steps = max(1, len(steps))
    correct = sum(job["correct"] for job in jobs)
    seconds = sum(job["seconds"] for job in jobs)
    return {
        "problems": len(jobs),
        "correct": correct,
        "accuracy": correct / max(1, len(jobs)),
        "acceptance_rate": sum(record.outcome is Outcome.ACCEPTED for record in steps) / num_steps,
        "seconds_per_step": sum(record.seconds for record in steps) / num_steps,
        "seconds_per_answer": seconds / max(1, len(jobs)),
        "draft_tokens": sum(record.draft_tokens for record in steps),
        "target_tokens": sum(record.target_tokens for record in steps),
        "seconds": seconds,
    }
