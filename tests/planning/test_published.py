"""The planner against the seconds that the GSI paper measured: how well it fits, and what that says."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.optimize import least_squares

from gsi.planning.published import TABLE_2, Published, predict, relative_error
from gsi.planning.systems import (
    ANSWER_TOKENS,
    OURS,
    PAPER,
    PRM_COMPUTE_EFFICIENCY,
    SECONDS_PER_PASS,
    ContextReading,
    System,
)

FITTED = (SECONDS_PER_PASS, PRM_COMPUTE_EFFICIENCY, ANSWER_TOKENS)
SMALL_N, LARGE_N = TABLE_2[:4], TABLE_2[4:]
DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"


def errors_with(scales: Sequence[float], rows: Sequence[Published] = TABLE_2, system: System = PAPER) -> list[float]:
    """Return the relative errors with each fitted constant multiplied by a scale."""
    overhead, prm, tokens = (constant * scale for constant, scale in zip(FITTED, scales, strict=True))
    changed = replace(system, seconds_per_pass=overhead, prm_compute=prm)
    return [predict(row, changed, tokens) / row.seconds - 1 for row in rows]


def fit(rows: Sequence[Published], system: System = PAPER) -> Any:
    return least_squares(lambda scales: errors_with(scales, rows, system), [1.0, 1.0, 1.0], bounds=(0.05, 3.0))


def test_each_published_figure_is_within_a_tenth() -> None:
    """All eight are within 10.1 %, half of them within 4 %; these errors are those that the document prints."""
    errors = {(row.method, row.n): relative_error(row) for row in TABLE_2}
    assert max(map(abs, errors.values())) < 0.101, errors
    assert sum(abs(error) < 0.04 for error in errors.values()) >= 4, errors


def test_the_document_prints_these_errors() -> None:
    """Its table has each figure, what is planned and the error, as the code computes them."""
    printed = re.findall(
        r"^\| (\S+) \| (16|64) \| ([\d.]+) \| ([\d.]+) \| ([+-][\d.]+) \|$", DOCUMENT.read_text(), re.M
    )
    assert printed == [
        (row.method, str(row.n), f"{row.seconds:.2f}", f"{predict(row):.2f}", f"{100 * relative_error(row):+.1f}")
        for row in TABLE_2
    ]


def test_the_three_constants_are_where_the_squared_error_is_least() -> None:
    """A fit from elsewhere ends at the constants in the code."""
    best = fit(TABLE_2)
    squares = [sum(error**2 for error in errors_with(scales)) for scales in ((1, 1, 1), best.x)]
    assert squares[0] < 1.005 * squares[1]


def test_a_figure_is_predicted_from_the_other_seven() -> None:
    """Left out of the fit, each figure is still within 15 %: three constants for eight figures are not too many."""
    left_out = {}
    for place, row in enumerate(TABLE_2):
        fitted = fit((*TABLE_2[:place], *TABLE_2[place + 1 :])).x
        left_out[row.method, row.n] = errors_with(fitted, [row])[0]
    assert max(map(abs, left_out.values())) < 0.15, left_out


def slope(method: str, system: System = PAPER) -> float:
    """Return the planned seconds that a candidate adds between n = 16 and n = 64."""
    few, many = (next(row for row in rows if row.method == method) for rows in (SMALL_N, LARGE_N))
    return (predict(many, system) - predict(few, system)) / (many.n - few.n)


def test_the_prm_is_what_a_candidate_costs() -> None:
    """More than two thirds of a candidate's 22 to 29 ms are the PRM's, which reads its whole context again."""
    without_prm = replace(PAPER, prm_compute=1e6)
    for method in ("gsi", "rsd", "soft-best-of-n:draft", "soft-best-of-n:target"):
        assert 0.022 < slope(method) < 0.030
    assert slope("soft-best-of-n:draft", without_prm) < slope("soft-best-of-n:draft") / 3


def test_a_prm_with_a_cache_would_not_explain_the_figures() -> None:
    """With a warm cache for scoring the best fit is twice as far off: their scorers had none."""
    cached = fit(TABLE_2, replace(PAPER, context_reading=ContextReading.NEVER))
    assert cached.cost > 2 * fit(TABLE_2).cost


def test_what_is_not_explained_stays_visible() -> None:
    """The figures that the model misses by 9 to 10 %, so that an improvement has to change the document as well."""
    by_row = {(row.method, row.n): relative_error(row) for row in TABLE_2}
    assert by_row["gsi", 64] == pytest.approx(0.10, abs=0.005)
    assert by_row["soft-best-of-n:target", 64] == pytest.approx(-0.092, abs=0.005)


def test_ours_would_halve_a_step_and_its_floor_is_below_a_fifth_of_a_second() -> None:
    """GSI at n = 16: 0.87 s measured, 0.45 s planned with cache and overlap, 0.16 s if a pass cost nothing besides."""
    row = TABLE_2[0]
    assert predict(row, OURS) == pytest.approx(0.454, abs=0.005)
    assert predict(row, replace(OURS, seconds_per_pass=0.0)) == pytest.approx(0.156, abs=0.005)
