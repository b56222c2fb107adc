"""From the records of one setting to a recommended one: what the records say, the few worth running, what they gave."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from gsi.errors import InvalidRequestError
from gsi.evaluation.calibration import (
    PAPERS,
    Calibration,
    CalibrationRow,
    Setting,
    calibrate,
    choose_worth_running,
)
from gsi.evaluation.calibration_tables import THRESHOLDS, write_grid
from gsi.evaluation.estimates import Estimate, estimate_share
from gsi.evaluation.figures import Row
from gsi.evaluation.folder import EvaluationRun, Folder
from gsi.evaluation.non_inferiority import DEFAULT_MARGIN, estimate_lost_accuracy, find_best, recommend
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.tables import Column, format_code, format_percent_with_interval, write_table
from gsi.evaluation.theory import TheoryReport, apply_theorems, write_theory
from gsi.suggestions import list_names


@dataclass(frozen=True, slots=True)
class Findings:
    """What the records tell without a model."""

    calibration: Calibration
    worth_running: list[CalibrationRow]
    theory: TheoryReport | None  # None for rsd: its records have no likelihoods

    @property
    def method(self) -> str:
        return self.calibration.method


@dataclass(frozen=True, slots=True)
class MeasuredSetting:
    """A setting that was run: the mean accuracy of each problem over its seeds, and the cost (in any one unit)."""

    setting: Setting
    accuracy_by_problem: Mapping[str, float]
    cost: float
    acceptance: float

    @property
    def accuracy(self) -> float:
        return sum(self.accuracy_by_problem.values()) / len(self.accuracy_by_problem)

    @property
    def accuracy_interval(self) -> Estimate:
        """The accuracy with its 95 % interval, as wide as if each problem had been run once."""
        values = list(self.accuracy_by_problem.values())
        return estimate_share(values, len(values))


def read_records(folder: Folder, method: str | None, n: int | None) -> list[RecordedJob]:
    """Return the records of plain ``gsi`` or ``rsd`` at n, by default the first that there is, at its largest n.

    Raises InvalidRequestError without any.
    """
    if method is not None and method not in PAPERS:
        raise InvalidRequestError(f"method: {method} is not allowed; allowed: {list_names(method, PAPERS)}")
    jobs = [job for job in folder.read_records() if job.state.value == "SUCCEEDED"]
    label = method or next((label for label in PAPERS if any(job.label == label for job in jobs)), "gsi")
    found = [job for job in jobs if job.label == label]
    ns = sorted({job.n for job in found})
    if not ns:
        raise InvalidRequestError(
            f"{folder.path}: no records of method {label}; allowed: an evaluation whose --methods has gsi or rsd"
        )
    if n is not None and n not in ns:
        raise InvalidRequestError(f"n: {n} is not recorded; allowed: {', '.join(map(str, ns))}")
    return [job for job in found if job.n == (n or ns[-1])]


def analyse_records(
    jobs: Sequence[RecordedJob],
    *,
    betas: Sequence[float],
    thresholds: Sequence[float],
    ns: Sequence[int],
    num_runs: int,
    reward_bound: float,
    epsilon: float,
) -> Findings:
    """Compute everything that needs no model."""
    grid = calibrate(jobs, betas, thresholds, ns)
    chosen = choose_worth_running(grid.rows, num_runs, grid.method)
    theory = apply_theorems(jobs, reward_bound, epsilon) if grid.method == "gsi" else None
    return Findings(grid, chosen, theory)


def format_label(setting: Setting, method: str = "gsi") -> str:
    """Return a setting as a method that an evaluation runs."""
    if method == "rsd":
        return f"rsd:binary={setting.acceptance_threshold:g}:beta={setting.beta:g}:n={setting.n}"
    return f"gsi:beta={setting.beta:g}:u={setting.acceptance_threshold:g}:n={setting.n}"


def plan_runs(run: EvaluationRun, findings: Findings) -> Plan:
    """Return the evaluation of the settings worth running: the same problems and other parameters, on fresh seeds.

    The records chose the settings, so on their own seeds the chosen ones would look better than they are.
    """
    labels = tuple(format_label(row.setting, findings.method) for row in findings.worth_running)
    fresh = run.plan.seed_offset + run.plan.seeds
    return run.plan.model_copy(update={"methods": labels, "ns": (run.plan.ns[0],), "seed_offset": fresh})


def collect_measured(findings: Findings, rows: Sequence[Row]) -> list[MeasuredSetting]:
    """Return what the settings gave, without those whose every job failed.

    The cost is in FLOPs per problem, or in tokens if a model's size is unknown.
    """
    by_label = {row.label: row for row in rows if not row.has_failed}
    labels = {row.setting: format_label(row.setting, findings.method) for row in findings.worth_running}
    found = [(setting, by_label[label]) for setting, label in labels.items() if label in by_label]
    has_flops = all(row.flops_per_problem is not None for _, row in found)
    return [
        MeasuredSetting(
            setting,
            row.accuracy_by_problem,
            cost=(row.flops_per_problem or 0.0) if has_flops else row.tokens_per_problem.total,
            acceptance=row.acceptance_rate.value if row.acceptance_rate else 0.0,
        )
        for setting, row in found
    ]


def write_calibration(
    run: EvaluationRun, findings: Findings, rows: Sequence[Row], margin: float = DEFAULT_MARGIN
) -> str:
    """Return the whole calibration in Markdown; ``rows`` is empty if nothing was run."""
    grid, theory = findings.calibration, findings.theory
    num_steps = grid.rows[0].num_steps
    parts = [
        f"# Calibration of {findings.method} on {run.evaluation.dataset}",
        *(_write_recommendation(findings, rows, margin) if rows else []),
        "## Worth running",
        write_grid(findings.worth_running, findings.method),
        f"From {grid.num_problems} problems, {num_steps} steps; {grid.num_left_out} left out. "
        "\\* is the recorded setting. *draft*, *target* and *PRM* are tokens that each writes or rates. "
        "Tokens, FLOPs and reward are those expected of a step. Candidates do not depend "
        "on beta and u, the prefixes of later steps do: *first step* is unbiased, the others hold for the recorded "
        "prefixes.",
        *(["## Theory", write_theory(theory)] if theory else []),
        "## All settings",
        write_grid(grid.rows, findings.method),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def build_calibration_json(
    run: EvaluationRun, findings: Findings, rows: Sequence[Row], margin: float = DEFAULT_MARGIN
) -> dict[str, Any]:
    """Return the whole calibration as JSON values; a number that is not finite is a string."""
    measured = collect_measured(findings, rows)
    chosen, best = (recommend(measured, margin), find_best(measured)) if measured else (None, None)
    plain: dict[str, Any] = json.loads(
        to_json(
            {
                "dataset": run.evaluation.dataset,
                "method": findings.method,
                "margin": margin,
                "recommended": chosen and best and _build_measured(chosen, best, findings.method),
                "measured": [_build_measured(one, best, findings.method) for one in measured if best],
                "worth_running": findings.worth_running,
                "theory": findings.theory,
                "grid": findings.calibration.rows,
            },
            inf_nan_mode="strings",
        )
    )
    return plain


def _build_measured(one: MeasuredSetting, best: MeasuredSetting, method: str) -> dict[str, Any]:
    return {
        "method": format_label(one.setting, method),
        "setting": one.setting,
        "accuracy": one.accuracy,
        "accuracy_interval": one.accuracy_interval,
        "acceptance": one.acceptance,
        "cost": one.cost,
        "accuracy_lost": estimate_lost_accuracy(one, best),
    }


def _write_recommendation(findings: Findings, rows: Sequence[Row], margin: float) -> list[str]:
    measured = collect_measured(findings, rows)
    failed = [f"`{row.label}` FAILED: {format_code(row.failure_reason)}." for row in rows if row.has_failed]
    if not measured:
        return [f"**Nothing is recommended**: every setting failed. {' '.join(failed)}"]
    chosen, best = recommend(measured, margin), find_best(measured)
    expected = {row.setting: row.acceptance for row in findings.worth_running}
    columns = [
        Column("beta", [f"{one.setting.beta:g}" for one in measured]),
        Column(THRESHOLDS[findings.method], [f"{one.setting.acceptance_threshold:g}" for one in measured]),
        Column("n", [str(one.setting.n) for one in measured]),
        Column("accuracy, %", [format_percent_with_interval(one.accuracy_interval, digits=0) for one in measured]),
        Column("lost", [_format_lost(one, best) for one in measured]),
        Column(
            "accepted", [f"{100 * one.acceptance:.0f} / {100 * expected[one.setting].value:.0f}" for one in measured]
        ),
        Column("cost", [f"{one.cost:.2g}" for one in measured]),
    ]
    return [
        _explain_choice(chosen, best, margin, findings.method),
        *failed,
        write_table(columns),
        "*lost*: accuracy against the best, in points, with its paired 95 % interval; *accepted*: % of steps, measured "
        "/ as the records promised; *cost*: FLOPs per problem, or tokens if a model's size is unknown. The runs have "
        "fresh seeds. Several settings were compared, and the intervals are not corrected for that.",
    ]


def _format_lost(one: MeasuredSetting, best: MeasuredSetting) -> str:
    return "(best)" if one is best else format_percent_with_interval(estimate_lost_accuracy(one, best))


def _explain_choice(chosen: MeasuredSetting, best: MeasuredSetting, margin: float, method: str) -> str:
    accuracy = format_percent_with_interval(chosen.accuracy_interval)
    said = f"**Recommended: `{format_label(chosen.setting, method)}`**, accuracy {accuracy} %: "
    if chosen is best:
        return (
            f"{said}the most accurate of those that were run. No cheaper one is shown to lose at most "
            f"{100 * margin:g} points against it."
        )
    lost = estimate_lost_accuracy(chosen, best)
    return (
        f"{said}the cheapest that is shown to lose at most {100 * margin:g} points against the most accurate "
        f"(non-inferiority: the paired 95 % interval of its loss ends at {100 * lost.high:.1f})."
    )
