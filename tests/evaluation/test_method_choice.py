"""``gsi calibrate --methods``: the Pareto front, and the cheapest method that is shown to be hardly worse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gsi.cli.main import app
from gsi.errors import InvalidRequestError
from gsi.evaluation.figures import Row, compute_rows
from gsi.evaluation.folder import Folder
from gsi.evaluation.front import pareto_front
from gsi.evaluation.method_choice import CostKind, choose_method, select_rows, write_method_choice
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import RecordedJob
from gsi.jobs.state import JobState
from tests.evaluation.made_records import accepted_step, evaluation, job, resampled_step

LABELS = ("gsi", "soft-best-of-n:target", "draft")
Point = tuple[str, float, float]


def front_of(*points: Point) -> list[str]:
    """Return the names on the front of (name, cost, value)."""
    return [name for name, _, _ in pareto_front(points, lambda one: one[1], lambda one: one[2])]


def test_what_costs_more_and_is_worth_no_more_is_not_on_the_front() -> None:
    """Dearer and worse, dearer and equal, equal in cost and worse: each is dominated."""
    good = ("good", 2.0, 0.8)
    assert front_of(good, ("dearer and worse", 3.0, 0.7)) == ["good"]
    assert front_of(good, ("dearer", 3.0, 0.8)) == ["good"]
    assert front_of(("worse", 2.0, 0.7), good) == ["good"]


def test_the_front_is_in_order_of_cost_and_keeps_every_trade() -> None:
    """A cheap bad choice and a dear good one do not beat each other; equal choices share a place."""
    points = (("dear", 9.0, 0.9), ("cheap", 1.0, 0.5), ("beaten", 5.0, 0.4), ("middle", 4.0, 0.7), ("twin", 4.0, 0.7))
    assert front_of(*points) == ["cheap", "middle", "twin", "dear"]
    assert front_of() == []


def test_every_choice_off_the_front_is_beaten_by_one_on_it() -> None:
    """The definition itself, over a grid of points."""
    points = [(f"{i}", float(i % 7), (i * 5 % 11) / 11) for i in range(40)]
    names = front_of(*points)
    on = [point for point in points if point[0] in names]
    for name, cost, value in points:
        beaten = any(c <= cost and v >= value and (c, v) != (cost, value) for _, c, v in on)
        assert beaten == (name not in names)


def make_jobs(label: str, num_right: int, seconds: float, num_problems: int = 400, n: int = 4) -> list[RecordedJob]:
    """Return a job for each problem, of which the first ``num_right`` are right."""
    step = resampled_step() if label == "soft-best-of-n:target" else accepted_step()
    return [
        job(f"p{i:03}", label=label, n=n, is_correct=i < num_right, steps=[step], started_at=0.0, finished_at=seconds)
        for i in range(num_problems)
    ]


def make_rows(*groups: list[RecordedJob]) -> list[Row]:
    return compute_rows(evaluation(LABELS), [one for group in groups for one in group])


ROWS = make_rows(
    make_jobs("gsi", 380, seconds=1.0),
    make_jobs("soft-best-of-n:target", 380, seconds=3.0),
    make_jobs("draft", 200, seconds=0.2, n=1),
)


def test_the_cheapest_method_that_is_shown_to_be_hardly_worse_is_recommended() -> None:
    """GSI is as right as S-BoN(target) in a third of the time; the draft alone is cheaper, and far worse."""
    found = choose_method(ROWS, CostKind.SECONDS, margin=0.02)
    assert (found.recommended.label, found.recommended.n) == ("gsi", 4)
    assert [one.label for one in found.choices] == ["draft", "gsi", "soft-best-of-n:target"]
    assert [one.label for one in found.front] == ["draft", "gsi"]
    assert "Recommended: `gsi`, n = 4" in write_method_choice(found, "arithmetic")


def test_a_cheaper_method_that_few_problems_cannot_clear_is_not_recommended() -> None:
    """With ten problems a loss of 2 points cannot be excluded: the most accurate is named, and why."""
    rows = make_rows(make_jobs("gsi", 9, 1.0, num_problems=10), make_jobs("draft", 8, 0.1, num_problems=10, n=1))
    found = choose_method(rows, CostKind.SECONDS, margin=0.02)
    assert found.recommended.label == "gsi"
    assert "No cheaper method is shown to lose at most 2 points" in write_method_choice(found, "arithmetic")


def test_flops_and_seconds_may_disagree_about_what_is_cheap() -> None:
    """The cost is the one that was asked for."""
    by_flops = choose_method(ROWS, CostKind.FLOPS, margin=0.02)
    assert [one.cost for one in by_flops.choices] == sorted(row.flops_per_problem or 0.0 for row in ROWS)
    assert by_flops.kind is CostKind.FLOPS


def test_a_method_that_failed_is_named_and_not_chosen() -> None:
    """A row without an answer has no accuracy; its reason is shown."""
    dead = [one.model_copy(update={"state": JobState.FAILED, "error": "no draft"}) for one in make_jobs("gsi", 0, 1.0)]
    found = choose_method(make_rows(dead, make_jobs("draft", 9, 1.0, n=1)), CostKind.SECONDS, 0.02)
    assert found.recommended.label == "draft"
    assert "`gsi`, n = 4, FAILED: `no draft`" in write_method_choice(found, "arithmetic")


def test_rows_are_selected_by_method_and_n() -> None:
    """A method without n stays whatever n is asked for; what is not recorded is refused with what is."""
    rows = [*ROWS, *make_rows(make_jobs("gsi", 390, 2.0, n=16))]
    assert [(row.label, row.n) for row in select_rows(rows, ["all"], 16)] == [("draft", 1), ("gsi", 16)]
    assert {row.label for row in select_rows(rows, ["gsi"], None)} == {"gsi"}
    with pytest.raises(InvalidRequestError, match="methods: rsd is not recorded; allowed: all, or of gsi"):
        select_rows(rows, ["rsd"], None)
    with pytest.raises(InvalidRequestError, match="n: 8 is not recorded; allowed: 1, 4, 16"):
        select_rows(rows, ["all"], 8)


def test_an_unknown_cost_is_refused_with_what_is_allowed() -> None:
    """A model whose size is unknown has no FLOPs."""
    bare = [one.model_copy(update={"models": {}}) for one in make_jobs("gsi", 9, 1.0, num_problems=10)]
    with pytest.raises(InvalidRequestError, match="cost: flops of gsi, n = 4 are not on record; allowed: seconds"):
        choose_method(make_rows(bare), CostKind.FLOPS, 0.02)


def test_the_command_reads_records_and_runs_nothing(tmp_path: Path) -> None:
    """methods.md and methods.json lie in the evaluation's folder; bad options are refused by name."""
    folder = Folder(tmp_path)
    folder.begin(Plan(dataset="arithmetic", methods=LABELS, ns=(4,), seeds=1), evaluation(LABELS))
    for one in [*make_jobs("gsi", 19, 1.0, 20), *make_jobs("draft", 10, 0.1, 20, n=1)]:
        folder.append(one)
    run = CliRunner(env={"COLUMNS": "100"})
    result = run.invoke(app, ["calibrate", str(tmp_path), "--methods", "all", "--margin", "5", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["recommended"]["method"] == "gsi"
    assert json.loads((tmp_path / "methods.json").read_text()) == json.loads(result.stdout)
    assert "accuracy" in (tmp_path / "methods.md").read_text()
    refused = run.invoke(app, ["calibrate", str(tmp_path), "--methods", "all", "--cost", "dollars"])
    assert "--cost: dollars is not allowed; allowed: seconds, flops" in refused.stderr
    both = run.invoke(app, ["calibrate", str(tmp_path), "--methods", "all", "--method", "gsi"])
    assert "--method and --methods are both given" in both.stderr
