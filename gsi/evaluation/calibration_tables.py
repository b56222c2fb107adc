"""The grid of a calibration as two tables, each at most 80 columns wide."""

import math
from collections.abc import Sequence

from gsi.evaluation.calibration import CalibrationRow
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.tables import NONE, Column, format_significant, write_table

THRESHOLDS = {"gsi": "u", "rsd": "delta"}  # the papers' names of the acceptance threshold


def write_grid(rows: Sequence[CalibrationRow], method: str = "gsi") -> str:
    """Return two tables of the figures, acceptance, and tokens by role with FLOPs and reward.

    * marks the recorded setting, ~ what is imputed.
    """
    named = [
        Column("beta", [f"{row.setting.beta:g}{'*' if row.is_recorded else ''}" for row in rows]),
        Column(THRESHOLDS[method], [f"{row.setting.acceptance_threshold:g}" for row in rows]),
        Column("n", [str(row.setting.n) for row in rows]),
    ]
    acceptance = [
        Column("accepted, %", [_format_share(row.acceptance) for row in rows]),
        Column("first step, %", [_format_share(row.first_step_acceptance) for row in rows]),
        Column("ESS", [f"{row.effective_sample_size:.1f}" for row in rows]),
        Column("changed", [NONE if row.changed_share is None else f"{row.changed_share:.2f}" for row in rows]),
    ]
    marks = ["~" if row.imputed_share > 0 else "" for row in rows]
    costs = [
        Column("draft", [f"{format_significant(row.draft_tokens)}" for row in rows]),
        Column(
            "target", [f"{mark}{format_significant(row.target_tokens)}" for mark, row in zip(marks, rows, strict=True)]
        ),
        Column("PRM", [f"{mark}{format_significant(row.prm_tokens)}" for mark, row in zip(marks, rows, strict=True)]),
        Column("FLOPs", [_format_flops(mark, row.flops) for mark, row in zip(marks, rows, strict=True)]),
        Column("reward", [f"{mark}{row.reward:.3f}" for mark, row in zip(marks, rows, strict=True)]),
    ]
    tables = [write_table([*named, *acceptance]), write_table([*named, *costs])]
    if any(marks):
        most = max(row.imputed_share for row in rows)
        tables.append(
            f"~ is imputed: of at most {100 * most:.0f} % of the resamplings the target wrote nothing on record. The\n"
            "reward is the mean of other steps' (or the draft's, if the target wrote nothing)."
        )
    return "\n\n".join(tables) + "\n"


def _format_share(share: Estimate) -> str:
    value = f"{100 * share.value:.0f}"
    return f"{value} [{100 * share.low:.0f}, {100 * share.high:.0f}]" if math.isfinite(share.low) else value


def _format_flops(mark: str, flops: float | None) -> str:
    return NONE if flops is None else f"{mark}{flops:.2g}"
