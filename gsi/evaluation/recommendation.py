"""From the records of one setting to a recommended one: what the records say, the few worth running, what they gave."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from gsi.errors import InvalidRequestError
from gsi.evaluation import calibration, theory
from gsi.evaluation.calibration import Calibration, CalibrationRow, Measured, Setting, accuracy_lost, recommend
from gsi.evaluation.draft_proposals import Interval
from gsi.evaluation.figures import Row
from gsi.evaluation.folder import Folder, Run
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.report import Column, percent_with_interval, table
from gsi.evaluation.theory import TheoryReport


@dataclass(frozen=True, slots=True)
class Told:
    """What the records tell without a model."""

    calibration: Calibration
    worth_running: list[CalibrationRow]
    theory: TheoryReport


def records_of_gsi(folder: Folder, n: int | None) -> list[RecordedJob]:
    """Return the records of plain ``gsi`` at n, the largest unless given. Raises InvalidRequestError without any."""
    found = [job for job in folder.records() if job.label == "gsi" and job.state.value == "SUCCEEDED"]
    ns = sorted({job.n for job in found})
    if not ns:
        raise InvalidRequestError(
            f"{folder.path}: no records of method gsi; allowed: an evaluation whose --methods has gsi"
        )
    if n is not None and n not in ns:
        raise InvalidRequestError(f"n: {n} is not recorded; allowed: {', '.join(map(str, ns))}")
    return [job for job in found if job.n == (n or ns[-1])]


def tell(
    jobs: Sequence[RecordedJob],
    *,
    betas: Sequence[float],
    thresholds: Sequence[float],
    ns: Sequence[int],
    num_runs: int,
    reward_bound: float,
    epsilon: float,
) -> Told:
    """Compute everything that needs no model."""
    grid = calibration.calibrate(jobs, betas, thresholds, ns)
    chosen = calibration.worth_running(grid.rows, num_runs)
    return Told(grid, chosen, theory.describe(jobs, reward_bound, epsilon))


def label(setting: Setting) -> str:
    """Return a setting as a method that an evaluation runs."""
    return f"gsi:beta={setting.beta:g}:u={setting.acceptance_threshold:g}:n={setting.n}"


def plan_of(run: Run, told: Told) -> Plan:
    """Return the evaluation of the settings worth running: the same problems, seeds and other parameters."""
    return run.plan.model_copy(
        update={"methods": tuple(label(row.setting) for row in told.worth_running), "ns": (run.plan.ns[0],)}
    )


def measured(told: Told, rows: Sequence[Row]) -> list[Measured]:
    """Return what the settings gave. The cost is in FLOPs a problem, or in tokens where a model's size is unknown."""
    by_label = {row.label: row for row in rows}
    found = [(row.setting, by_label[label(row.setting)]) for row in told.worth_running]
    has_flops = all(row.flops_per_problem is not None for _, row in found)
    return [
        Measured(
            setting,
            row.accuracy_by_problem,
            cost=(row.flops_per_problem or 0.0) if has_flops else _tokens(row),
            acceptance=row.acceptance_rate.value if row.acceptance_rate else 0.0,
        )
        for setting, row in found
    ]


def to_markdown(run: Run, told: Told, rows: Sequence[Row]) -> str:
    """Return the whole calibration for readers; ``rows`` is empty where nothing was run."""
    grid = told.calibration
    parts = [
        f"# Calibration on {run.evaluation.dataset}",
        *(_recommendation(told, rows) if rows else []),
        "## Worth running",
        calibration.to_markdown(told.worth_running),
        f"From {grid.num_problems} problems, {told.theory.num_prefixes} steps; {grid.num_left_out} left out. "
        "\\* is the recorded setting. Tokens, FLOPs and reward are those expected of a step. Candidates do not depend "
        "on beta and u, the prefixes of later steps do: *first step* is unbiased, the others hold for the recorded "
        "prefixes.",
        "## Theory",
        theory.to_markdown(told.theory),
        "## All settings",
        calibration.to_markdown(grid.rows),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def to_plain(run: Run, told: Told, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the whole calibration as JSON values; what is not finite is a word."""
    runs = measured(told, rows) if rows else []
    best = recommend(runs) if runs else None
    plain: dict[str, Any] = json.loads(
        to_json(
            {
                "dataset": run.evaluation.dataset,
                "recommended": best and _plain(best, runs),
                "measured": [_plain(one, runs) for one in runs],
                "worth_running": told.worth_running,
                "theory": told.theory,
                "grid": told.calibration.rows,
            },
            inf_nan_mode="strings",
        )
    )
    return plain


def _plain(one: Measured, runs: Sequence[Measured]) -> dict[str, Any]:
    lost = accuracy_lost(one, max(runs, key=lambda other: other.accuracy))
    return {
        "method": label(one.setting),
        "setting": one.setting,
        "accuracy": one.accuracy,
        "accuracy_half_width": one.accuracy_half_width,
        "acceptance": one.acceptance,
        "cost": one.cost,
        "accuracy_lost": lost,
    }


def _recommendation(told: Told, rows: Sequence[Row]) -> list[str]:
    runs = measured(told, rows)
    chosen, best = recommend(runs), max(runs, key=lambda one: one.accuracy)
    by_label = {row.label: row for row in rows}
    expected = {row.setting: row.acceptance for row in told.worth_running}
    found = [by_label[label(one.setting)] for one in runs]
    columns = [
        Column("beta", [f"{one.setting.beta:g}" for one in runs]),
        Column("u", [f"{one.setting.acceptance_threshold:g}" for one in runs]),
        Column("n", [str(one.setting.n) for one in runs]),
        Column("accuracy, %", [percent_with_interval(row.accuracy) for row in found]),
        Column("lost, %", [_lost(accuracy_lost(one, best)) for one in runs]),
        Column("accepted, %", [percent_with_interval(row.acceptance_rate) for row in found]),
        Column("expected", [f"{100 * expected[one.setting].value:.1f}" for one in runs]),
        Column("cost", [f"{one.cost:.3g}" for one in runs]),
    ]
    lost = accuracy_lost(chosen, best)
    return [
        f"**Recommended: `{label(chosen.setting)}`**, accuracy {chosen.accuracy:.1%} ± "
        f"{chosen.accuracy_half_width:.1%}: the cheapest that is not shown to be worse than the best. It may lose up "
        f"to {max(0.0, lost.high):.1%} against it (upper end of the paired 95 % interval).",
        table(columns),
        "*lost*: accuracy against the best, with its paired interval; *expected*: the acceptance that the records "
        "promised; cost: FLOPs a problem, or tokens where a model's size is unknown. Several settings were compared, "
        "and the intervals are not corrected for that.",
    ]


def _lost(lost: Interval) -> str:
    return f"{100 * lost.value:.1f} [{100 * lost.low:.1f}, {100 * lost.high:.1f}]"


def _tokens(row: Row) -> float:
    tokens = row.tokens_per_problem
    return tokens.draft_written + tokens.target_written + tokens.target_scored + tokens.prm_rated
