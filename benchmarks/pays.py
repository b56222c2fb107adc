"""Does GSI pay on this machine? ``make bench-pays``: seconds an answer and accuracy against the target, in one run.

Every job passes through the real system of ``gsi up`` on the shipped family and the transformers engine. What is timed
runs one job at a time. A stopped run resumes where it left off; ``--quick`` asks the same of fewer problems.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.batching import measure_way
from benchmarks.methods import OUT, compare_order, write_order
from benchmarks.results import describe_conditions, publish
from gsi.cli.evaluate import run_with_progress
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.figures import Row, compare_accuracies, find_row
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.session import System
from gsi.evaluation.tables import Column, format_percent_with_interval, write_table

HEADING = "Does GSI pay? (`make bench-pays`)"
TARGET = "soft-best-of-n:target"
DRAFT = "soft-best-of-n:draft"
TIMED = ("target", "gsi", TARGET, "rsd", DRAFT)
CURVE = "gsi-no-rejection"  # GSI paper, Figure 2
BETAS = (0.5, 1, 2, 5, 8, 20, 80)  # newer GSI paper, Figure 5


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked."""

    problems: int
    ns: tuple[int, ...]  # of the curve without rejection
    throughput_problems: int


FULL = Size(problems=300, ns=(1, 4, 16, 64, 256), throughput_problems=96)
QUICK = Size(problems=10, ns=(1, 4, 16), throughput_problems=16)


def run_plan(name: str, size: Size, methods: Sequence[str], ns: Sequence[int], concurrency: int) -> Sequence[Row]:
    """Run the unfinished part of a plan in a system that is started for it; return its rows."""
    plan = Plan(dataset="arithmetic", methods=tuple(methods), ns=tuple(ns), seeds=1, limit=size.problems)
    folder = Folder(OUT / f"pays-{name}-{size.problems}")
    runner = System(engine="transformers", concurrency=concurrency, is_own=True)
    return run_with_progress(plan, folder, runner).rows


def measure(size: Size) -> dict[str, Any]:
    """Run everything; return the report."""
    timed = run_plan("timed", size, TIMED, (4, 16), concurrency=1)
    curve = run_plan("curve", size, (CURVE,), size.ns, concurrency=4)
    sweep = run_plan("beta", size, [f"gsi:beta={beta}" for beta in BETAS], (4,), concurrency=4)
    throughput = asyncio.run(measure_way({}, size.throughput_problems))
    return {
        **describe_conditions(),
        "problems": size.problems,
        **compare(timed),
        "no_rejection_accuracy": {str(row.n): row.accuracy.value for row in curve},
        "problems_per_second_16_jobs_over_1": throughput["16"]["problems_per_second"]
        / throughput["1"]["problems_per_second"],
        "acceptance_by_beta": {str(beta): _acceptance(row) for beta, row in zip(BETAS, sweep, strict=True)},
        "rows": [describe_row(row) for row in timed],
        "no_rejection_rows": [describe_row(row) for row in curve],
        "order": [pair for n in (4, 16) for pair in compare_order(timed, n)],
    }


def compare(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the ratios of seconds an answer, and the differences of accuracy in points with 95 % intervals."""
    gsi4, gsi16, alone = _find(rows, "gsi", 4), _find(rows, "gsi", 16), _find(rows, "target", 1)
    target4, target16 = _find(rows, TARGET, 4), _find(rows, TARGET, 16)
    over_alone, over_target4 = compare_accuracies(gsi4, alone), compare_accuracies(gsi4, target4)
    return {
        "gsi4_over_sbon_target4_seconds": _seconds(gsi4) / _seconds(target4),
        "gsi4_over_target_seconds": _seconds(gsi4) / _seconds(alone),
        "gsi16_over_sbon_target16_seconds": _seconds(gsi16) / _seconds(target16),
        "gsi4_minus_target_points": 100 * over_alone.value,
        "gsi4_minus_target_points_95": [100 * over_alone.low, 100 * over_alone.high],
        "gsi4_minus_sbon_target4_points": 100 * over_target4.value,
        "gsi4_minus_sbon_target4_points_95": [100 * over_target4.low, 100 * over_target4.high],
    }


def describe_row(row: Row) -> dict[str, Any]:
    """Return what the tables show of a method at one n."""
    return {
        "method": row.label,
        "n": row.n,
        "accuracy": row.accuracy.value,
        "accuracy_95": [row.accuracy.low, row.accuracy.high],
        "acceptance": _acceptance(row),
        "seconds_per_answer": row.timings.seconds_per_problem,
        "seconds_per_step": row.timings.seconds_per_step,
        "steps": row.steps_per_problem,
        "draft_tokens": row.tokens_per_problem.draft_written,
        "target_tokens": row.tokens_per_problem.target_written,
    }


def _find(rows: Sequence[Row], label: str, n: int) -> Row:
    row = find_row(rows, label, n)
    if row is None:
        raise KeyError(f"{label}, n = {n}")
    return row


def _seconds(row: Row) -> float:
    if row.timings.seconds_per_problem is None:
        raise ValueError(f"{row.label}, n = {row.n}: no job has its times on record")
    return row.timings.seconds_per_problem


def _acceptance(row: Row) -> float | None:
    return None if row.acceptance_rate is None else row.acceptance_rate.value


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    goals = [
        ("GSI n = 4, seconds over those of S-BoN(target) n = 4", "gsi4_over_sbon_target4_seconds", "at most 0.6"),
        ("GSI n = 4, seconds over those of the plain target", "gsi4_over_target_seconds", "at most 1.0"),
        ("GSI n = 16, seconds over those of S-BoN(target) n = 16", "gsi16_over_sbon_target16_seconds", "at most 0.6"),
        ("GSI n = 4 minus the plain target, points", "gsi4_minus_target_points", "at least 8"),
        ("GSI n = 4 minus S-BoN(target) n = 4, points", "gsi4_minus_sbon_target4_points", "at least -2"),
        ("problems a second, 16 jobs over 1", "problems_per_second_16_jobs_over_1", "at least 3"),
    ]
    head = (
        f"{report['problems']} held-out problems, one seed; what is timed ran one job at a time; {report['machine']}; "
    )
    compared = write_table(
        [
            Column("", [title for title, _, _ in goals], is_number=False),
            Column("measured", [f"{report[key]:.2f}" for _, key, _ in goals]),
            Column("goal", [goal for _, _, goal in goals]),
        ]
    )
    beta = [
        Column("beta", list(report["acceptance_by_beta"])),
        Column("accepted, %", [f"{100 * share:.1f}" for share in report["acceptance_by_beta"].values()]),
    ]
    parts = [
        head + report["date"] + ".",
        compared,
        _table(report["rows"]),
        "### The paper's order (GSI, Table 1), paired",
        write_order(report["order"]),
        "### Without rejection over n (GSI, Figure 2)",
        _table(report["no_rejection_rows"]),
        "### Acceptance over beta, n = 4 (newer GSI paper, Figure 5)",
        write_table(beta),
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return write_table(
        [
            Column("method", [row["method"] for row in rows], is_number=False),
            Column("n", [str(row["n"]) for row in rows]),
            Column(
                "right, %",
                [format_percent_with_interval(Estimate(row["accuracy"], *row["accuracy_95"])) for row in rows],
            ),
            Column(
                "accepted, %", ["-" if row["acceptance"] is None else f"{100 * row['acceptance']:.1f}" for row in rows]
            ),
            Column("s / answer", [f"{row['seconds_per_answer']:.3f}" for row in rows]),
            Column("s / step", [f"{row['seconds_per_step']:.4f}" for row in rows]),
            Column("draft tokens", [f"{row['draft_tokens']:.0f}" for row in rows]),
            Column("target tokens", [f"{row['target_tokens']:.0f}" for row in rows]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ask fewer problems, in at most five minutes")
    parser.add_argument("--json", action="store_true", help="print one object and leave RESULTS.md unchanged")
    given = parser.parse_args()
    report = measure(QUICK if given.quick else FULL)
    publish(report, HEADING, format_report, as_json=given.json)


if __name__ == "__main__":
    main()
