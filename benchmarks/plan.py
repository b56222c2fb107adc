"""The planner of ``gsi plan`` against this machine: constants that it measures, and the seconds that follow from them.

``make bench-plan``. It measures the constants (``cpu_constants.py``, a minute), runs a few problems one job at a time,
measures the constants again, takes from the records how long steps are and how many are accepted, and predicts the
seconds of each method. ``--records FOLDER`` reads the records of an evaluation that ran one job at a time with the same
models, instead of a new run.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu_constants import describe_empty_steps, fit_models, measure_calls, observe_models, to_json
from benchmarks.results import describe_conditions, publish
from gsi.algorithm.candidates import Message, Outcome
from gsi.cli.evaluate import run_with_progress
from gsi.client.sdk import AsyncClient
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.session import System as Runner
from gsi.local.stack import local_stack
from gsi.planning.architecture import Role
from gsi.planning.phases import Model
from gsi.planning.steps import Setup, Workload, plan_steps
from gsi.planning.systems import ContextReading, System
from gsi.runtime.installation import SHIPPED_MODELS

GOAL = 0.25
METHODS = ("gsi", "rsd", "soft-best-of-n:draft", "soft-best-of-n:target", "target")
# The transformers engine keeps prefixes: to write as well as to score, it reads what the last step has added to them.
TRANSFORMERS = System("transformers", ContextReading.LAST_STEP, has_overlap=True, reads_before_writing=True)


def describe_workload(jobs: Sequence[RecordedJob], tokenizer: Tokenizer) -> Workload:
    """Return what the jobs of one method at one n were like."""
    steps = [step for job in jobs for step in job.steps]
    firsts = [list(map(_count_tokens, step.proposals[0].candidates)) for step in steps]
    prompts = [len(tokenizer.render((Message("user", job.prompt),))) for job in jobs]
    accepted = statistics.fmean(step.outcome is not Outcome.RESAMPLED for step in steps)
    return Workload(
        n=len(firsts[0]),
        prompt_tokens=statistics.fmean(prompts),
        step_tokens=statistics.fmean(length for lengths in firsts for length in lengths),
        num_steps=len(steps) / len(jobs),
        max_step_tokens=10**6,  # recorded lengths are those after the cut
        acceptance={"gsi": accepted, "rsd": accepted},
        shortest_tokens=statistics.fmean(map(min, firsts)),
        longest_tokens=statistics.fmean(map(max, firsts)),
        num_last=statistics.fmean(lengths.count(max(lengths)) for lengths in firsts),
        num_ends=statistics.fmean(len(set(lengths)) for lengths in firsts),
    )


def _count_tokens(candidate: Any) -> int:
    return len(candidate.token_ids)


def predict_rows(
    jobs: Sequence[RecordedJob], models: Mapping[Role, Model], system: System, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """Return the measured and the predicted seconds of each method and n."""
    groups: dict[tuple[str, int], list[RecordedJob]] = {}
    for job in jobs:
        if job.label in METHODS and job.steps and job.started_at is not None and job.finished_at is not None:
            groups.setdefault((job.label, job.n), []).append(job)
    return [_predict_row(label, n, of_row, models, system, tokenizer) for (label, n), of_row in groups.items()]


def _predict_row(
    label: str,
    n: int,
    jobs: Sequence[RecordedJob],
    models: Mapping[Role, Model],
    system: System,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    work = describe_workload(jobs, tokenizer)
    step = plan_steps(Setup(models, system, work, count_cores()))[label]
    answer = work.num_steps * (step.seconds + system.seconds_per_step)
    measured = statistics.fmean((job.finished_at or 0) - (job.started_at or 0) for job in jobs)
    return {
        "method": label,
        "n": n,
        "step_tokens": work.step_tokens,
        "longest_tokens": work.longest,
        "acceptance": work.acceptance["gsi"],
        "seconds_per_step": statistics.fmean(step.seconds for job in jobs for step in job.steps),
        "predicted_seconds_per_step": step.seconds,
        "seconds_per_answer": measured,
        "predicted_seconds_per_answer": answer,
        "relative_error": answer / measured - 1,
    }


async def measure_system(folder: Path, models: Mapping[Role, Model]) -> System:
    """Return the system with the costs of its calls and steps."""
    setup = Setup(models, TRANSFORMERS, describe_empty_steps(Tokenizer(str(folder / "draft"), None)), count_cores())
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as logs:
        async with (
            local_stack(Path(logs), lambda *_: None, models=folder, engine="transformers") as stack,
            AsyncClient(stack.redis_url) as client,
        ):
            return await measure_calls(client, setup)


def count_cores() -> int:
    """Return how many cores the three models share: each has one thread."""
    return min(os.cpu_count() or 1, 3)


def run_problems(models: Path, num_problems: int, ns: Sequence[int]) -> list[RecordedJob]:
    """Run every method on a few problems, one job at a time, in a system that is started for it."""
    plan = Plan(dataset="arithmetic", methods=METHODS, ns=tuple(ns), seeds=1, limit=num_problems)
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as folder:
        return list(run_with_progress(plan, Folder(Path(folder)), Runner(models=models, concurrency=1)).jobs)


def format_plan(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    lines = [
        f"One job at a time; {report['machine']}; {report['date']}. A call costs "
        f"{1000 * report['seconds_per_call']:.1f} ms more than its model takes, asking scorers "
        f"{1000 * report['seconds_per_scoring']:.1f} ms more, a step {1000 * report['seconds_per_step']:.1f} ms "
        "more than its calls.",
        "",
        "| model | parameters | layers | ms a pass | ms a sampled token | GFLOP/s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for role, one in report["models"].items():
        lines.append(
            f"| {role} | {one['parameters'] / 1e6:.2f} M | {one['layers']} | {one['ms_per_pass']:.2f} "
            f"| {one['ms_per_sampled_token']:.3f} | {one['gflops_per_second']:.0f} |"
        )
    lines += [
        "",
        "| method | n | accepted | s / step | predicted | s / answer | predicted | error |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['method']} | {row['n']} | {row['acceptance']:.0%} "
            f"| {row['seconds_per_step']:.4f} | {row['predicted_seconds_per_step']:.4f} "
            f"| {row['seconds_per_answer']:.3f} | {row['predicted_seconds_per_answer']:.3f} "
            f"| {row['relative_error']:+.0%} |"
        )
    lines += ["", f"Largest error {report['largest_error']:.0%}; goal: at most {GOAL:.0%}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=SHIPPED_MODELS, help="folder with draft, target and prm")
    parser.add_argument("--records", type=Path, help="folder of gsi eval with --concurrency 1, instead of a new run")
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--n", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--json", action="store_true", help="print the report and leave RESULTS.md unchanged")
    given = parser.parse_args()
    before = asyncio.run(observe_models(given.models))
    jobs = (
        Folder(given.records).read_records() if given.records else run_problems(given.models, given.problems, given.n)
    )
    models = fit_models(given.models, before, asyncio.run(observe_models(given.models)))
    system = asyncio.run(measure_system(given.models, models))
    rows = predict_rows(jobs, models, system, Tokenizer(str(given.models / "draft"), None))
    report = {
        **describe_conditions(),
        "models": {role: to_json(model) for role, model in models.items()},
        **{name: getattr(system, name) for name in ("seconds_per_call", "seconds_per_scoring", "seconds_per_step")},
        "rows": rows,
        "largest_error": max(abs(row["relative_error"]) for row in rows),
    }
    publish(report, "The planner on a CPU (`make bench-plan`)", format_plan, as_json=given.json)


if __name__ == "__main__":
    main()
