"""From the records of one setting to a recommended one: what the records say, the few worth running, what they gave."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from gsi.errors import InvalidRequestError
from gsi.evaluation.calibration import Calibration, CalibrationRow, Setting, calibrate, choose_worth_running, write_grid
from gsi.evaluation.estimates import Estimate, estimate_difference, estimate_share
from gsi.evaluation.figures import Row
from gsi.evaluation.folder import EvaluationRun, Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.tables import Column, format_percent_with_interval, write_table
from gsi.evaluation.theory import TheoryReport, apply_theorems, write_theory


@dataclass(frozen=True, slots=True)
class Findings:
    """What the records tell without a model."""

    calibration: Calibration
    worth_running: list[CalibrationRow]
    theory: TheoryReport


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


def read_gsi_records(folder: Folder, n: int | None) -> list[RecordedJob]:
    """Return the records of plain ``gsi`` at n, by default the largest. Raises InvalidRequestError without any."""
    found = [job for job in folder.read_records() if job.label == "gsi" and job.state.value == "SUCCEEDED"]
    ns = sorted({job.n for job in found})
    if not ns:
        raise InvalidRequestError(
            f"{folder.path}: no records of method gsi; allowed: an evaluation whose --methods has gsi"
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
    chosen = choose_worth_running(grid.rows, num_runs)
    return Findings(grid, chosen, apply_theorems(jobs, reward_bound, epsilon))


def format_label(setting: Setting) -> str:
    """Return a setting as a method that an evaluation runs."""
    return f"gsi:beta={setting.beta:g}:u={setting.acceptance_threshold:g}:n={setting.n}"


def plan_runs(run: EvaluationRun, findings: Findings) -> Plan:
    """Return the evaluation of the settings worth running: the same problems, seeds and other parameters."""
    labels = tuple(format_label(row.setting) for row in findings.worth_running)
    return run.plan.model_copy(update={"methods": labels, "ns": (run.plan.ns[0],)})


def collect_measured(findings: Findings, rows: Sequence[Row]) -> list[MeasuredSetting]:
    """Return what the settings gave. The cost is in FLOPs per problem, or in tokens if a model's size is unknown."""
    by_label = {row.label: row for row in rows}
    found = [(row.setting, by_label[format_label(row.setting)]) for row in findings.worth_running]
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


def estimate_lost_accuracy(measured: MeasuredSetting, best: MeasuredSetting) -> Estimate:
    """Return by how much ``best`` is more accurate, problem by problem, with a 95 % interval.

    Raises InvalidRequestError unless both were measured on the same problems.
    """
    if measured.accuracy_by_problem.keys() != best.accuracy_by_problem.keys() or not best.accuracy_by_problem:
        raise InvalidRequestError(
            "measured: settings with different problems; allowed: the same problems for every setting, at least one"
        )
    lost = [best.accuracy_by_problem[problem] - accuracy for problem, accuracy in measured.accuracy_by_problem.items()]
    return estimate_difference(lost)


def recommend(measured: Sequence[MeasuredSetting]) -> MeasuredSetting:
    """Return the cheapest setting that is not shown to be less accurate than the most accurate setting.

    "Shown" means that the paired 95 % interval of ``estimate_lost_accuracy`` lies above 0; of equal costs the more
    accurate wins. Few problems show little, and then the cheapest is returned: read the upper end of the interval,
    which says how much accuracy may be lost. Many settings compared at once are not corrected for. Raises
    InvalidRequestError for none.
    """
    if not measured:
        raise InvalidRequestError("measured: nothing was measured; allowed: at least one setting")
    best = max(measured, key=lambda m: (m.accuracy, -m.cost))
    good = [candidate for candidate in measured if estimate_lost_accuracy(candidate, best).low <= 0]
    return min(good, key=lambda m: (m.cost, -m.accuracy, m.setting))


def write_calibration(run: EvaluationRun, findings: Findings, rows: Sequence[Row]) -> str:
    """Return the whole calibration in Markdown; ``rows`` is empty if nothing was run."""
    grid = findings.calibration
    parts = [
        f"# Calibration on {run.evaluation.dataset}",
        *(_write_recommendation(findings, rows) if rows else []),
        "## Worth running",
        write_grid(findings.worth_running),
        f"From {grid.num_problems} problems, {findings.theory.num_prefixes} steps; {grid.num_left_out} left out. "
        "\\* is the recorded setting. Tokens, FLOPs and reward are those expected of a step. Candidates do not depend "
        "on beta and u, the prefixes of later steps do: *first step* is unbiased, the others hold for the recorded "
        "prefixes.",
        "## Theory",
        write_theory(findings.theory),
        "## All settings",
        write_grid(grid.rows),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def build_calibration_json(run: EvaluationRun, findings: Findings, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the whole calibration as JSON values; a number that is not finite is a string."""
    measured = collect_measured(findings, rows) if rows else []
    best = recommend(measured) if measured else None
    plain: dict[str, Any] = json.loads(
        to_json(
            {
                "dataset": run.evaluation.dataset,
                "recommended": best and _build_measured(best, measured),
                "measured": [_build_measured(one, measured) for one in measured],
                "worth_running": findings.worth_running,
                "theory": findings.theory,
                "grid": findings.calibration.rows,
            },
            inf_nan_mode="strings",
        )
    )
    return plain


def _build_measured(one: MeasuredSetting, measured: Sequence[MeasuredSetting]) -> dict[str, Any]:
    most_accurate = max(measured, key=lambda other: other.accuracy)
    return {
        "method": format_label(one.setting),
        "setting": one.setting,
        "accuracy": one.accuracy,
        "accuracy_interval": one.accuracy_interval,
        "acceptance": one.acceptance,
        "cost": one.cost,
        "accuracy_lost": estimate_lost_accuracy(one, most_accurate),
    }


def _write_recommendation(findings: Findings, rows: Sequence[Row]) -> list[str]:
    measured = collect_measured(findings, rows)
    chosen, best = recommend(measured), max(measured, key=lambda one: one.accuracy)
    by_label = {row.label: row for row in rows}
    expected = {row.setting: row.acceptance for row in findings.worth_running}
    found = [by_label[format_label(one.setting)] for one in measured]
    columns = [
        Column("beta", [f"{one.setting.beta:g}" for one in measured]),
        Column("u", [f"{one.setting.acceptance_threshold:g}" for one in measured]),
        Column("n", [str(one.setting.n) for one in measured]),
        Column("accuracy, %", [format_percent_with_interval(row.accuracy) for row in found]),
        Column("lost, %", [_format_lost(estimate_lost_accuracy(one, best)) for one in measured]),
        Column("accepted, %", [format_percent_with_interval(row.acceptance_rate) for row in found]),
        Column("expected", [f"{100 * expected[one.setting].value:.1f}" for one in measured]),
        Column("cost", [f"{one.cost:.3g}" for one in measured]),
    ]
    lost = estimate_lost_accuracy(chosen, best)
    return [
        f"**Recommended: `{format_label(chosen.setting)}`**, accuracy "
        f"{format_percent_with_interval(chosen.accuracy_interval)} %: the cheapest that is not shown to be worse than "
        f"the best. It may lose up to {max(0.0, lost.high):.1%} against it (upper end of the paired 95 % interval).",
        write_table(columns),
        "*lost*: accuracy against the best, with its paired interval; *expected*: the acceptance that the records "
        "promised; cost: FLOPs per problem, or tokens if a model's size is unknown. Several settings were compared, "
        "and the intervals are not corrected for that.",
    ]


def _format_lost(lost: Estimate) -> str:
    return f"{100 * lost.value:.1f} [{100 * lost.low:.1f}, {100 * lost.high:.1f}]"
