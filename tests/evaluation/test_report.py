"""The report has the figures, in few digits, and nothing in a record can break its tables."""

import json
import math
from dataclasses import replace
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from benchmarks.methods import PAPERS_ORDER, judge_order
from gsi.algorithm.candidates import Source
from gsi.evaluation import figures, report, tables
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.figures import Timings
from gsi.evaluation.records import Evaluation, RecordedJob, RecordedModel
from gsi.jobs.state import JobState
from tests.evaluation.made_records import (
    MODELS,
    accepted_step,
    candidate,
    evaluation,
    job,
    proposal,
    resampled_step,
    step,
)

REFERENCE = "soft-best-of-n:target"


def a_small_evaluation() -> tuple[Evaluation, list[RecordedJob]]:
    """Return two problems and two seeds of GSI and of the target alone: accuracies 3/4 and 1/2."""
    of_gsi = [
        job("p0", seed=0, steps=[accepted_step(num_tokens=1000)], is_correct_strict=False, answer="7|0"),
        job("p0", seed=1, steps=[accepted_step(num_tokens=1000)]),
        job("p1", seed=0, steps=[resampled_step(num_tokens=1000)]),
        job("p1", seed=1, steps=[resampled_step(num_tokens=1000)], is_correct=False),
    ]
    of_target = [
        job(problem, label=REFERENCE, seed=seed, is_correct=problem == "p0")
        for problem in ("p0", "p1")
        for seed in (0, 1)
    ]
    return evaluation([REFERENCE, "gsi"], seeds=2), [*of_gsi, *of_target]


def markdown(conditions: Evaluation, jobs: list[RecordedJob], plots: list[PurePath] | None = None) -> str:
    return report.write_report(conditions, jobs, figures.compute_rows(conditions, jobs), plots or [])


def table_under(heading: str, text: str) -> list[dict[str, str]]:
    """Return the table of a section: for each line, its cells by column."""
    section = text.split(f"## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in section.splitlines() if "|" in line]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_conditions_are_stated() -> None:
    """A reader learns what was run, on what, when, with which models and parameters."""
    text = markdown(*a_small_evaluation())
    assert text.startswith("# Evaluation on arithmetic\n")
    for line in (
        "- **problems**: 2, each with 2 seeds",
        "- **machine**: 2 cores of a small machine; 8 jobs at once",
        "- **date**: 2026-11-22",
        "- **draft**: tiny-draft, 10 parameters, transformers",
        "- **all methods**: beta 20",
    ):
        assert line in text.splitlines()


def test_parameters_that_differ_are_not_all_methods() -> None:
    """Where beta is swept, the labels say it."""
    jobs = [job(), job(label="gsi:beta=8", params={"beta": 8.0})]
    assert "all methods" not in markdown(evaluation(), jobs)


def test_the_main_table() -> None:
    """Percentages with one digit, in the order of the labels; intervals behind them."""
    conditions, jobs = a_small_evaluation()
    target, gsi = table_under("Accuracy and speed", markdown(conditions, jobs))
    row = figures.find_row(figures.compute_rows(conditions, jobs), "gsi", 4)
    assert row is not None
    assert (target["method"], target["n"], target["accepted, %"]) == (REFERENCE, "4", "-")
    assert gsi["accuracy, %"] == f"75.0 [{100 * row.accuracy.low:.1f}, {100 * row.accuracy.high:.1f}]"
    assert (gsi["strict, %"], gsi["SD of seeds"]) == ("50.0", "35.4")
    assert gsi["accepted, %"].startswith("50.0 [")
    assert (gsi["steps"], gsi["s / step"], gsi["s / problem"]) == ("1.00", "0.50", "2.00")


def test_without_timings_there_are_no_seconds() -> None:
    """A column without any figure is left out."""
    conditions, jobs = a_small_evaluation()
    rows = [replace(row, timings=Timings(None, None)) for row in figures.compute_rows(conditions, jobs)]
    text = report.write_report(conditions, jobs, rows)
    assert "s / step" not in text
    assert "75.0 [" in text


def test_the_cost_table() -> None:
    """Tokens by role and FLOPs a problem in one unit; GSI with 1,000 tokens a candidate."""
    conditions, jobs = a_small_evaluation()
    _, gsi = table_under("Cost", markdown(conditions, jobs))
    # half of the jobs resample: 500 target tokens and 1,500 rated ones
    assert (gsi["draft writes"], gsi["target writes"]) == ("1,000", "500")
    assert (gsi["target scores"], gsi["PRM rates"]) == ("1,000", "1,500")
    assert gsi["kFLOPs"] == "470"  # 2 * (10 * 1000 + 100 * 1500 + 50 * 1500)


def test_costs_are_related_to_one_baseline() -> None:
    """The target's own tokens of its n = 1 row, without the PRM's; each prompt's reading stands beside."""
    alone = job(label=REFERENCE, n=1, steps=[resampled_step()], prompt_tokens=10)
    best_of_4 = job(label=REFERENCE, n=4, steps=[resampled_step()] * 4, prompt_tokens=10)
    text = markdown(evaluation(), [alone, best_of_4, job(n=4, steps=[resampled_step()] * 2, prompt_tokens=10)])
    lines = table_under("Cost", text)
    # a resampled step costs 2 * (10 + 100 * 2 + 50 * 2), of which the target's part is 2 * 100 * 2
    assert [line["FLOPs / plain target"] for line in lines] == ["3.10", "1.55", "6.20"]
    assert {line["prompt, FLOPs"] for line in lines} == {"3,200"}  # 2 * 160 parameters * 10 tokens
    assert f"the target's tokens of {REFERENCE}, n = 1." in " ".join(text.split())
    plain = job(label="target", n=1, steps=[step(proposal(Source.TARGET, candidate(4)), source=Source.TARGET)])
    lines = table_under("Cost", markdown(evaluation(), [plain, alone]))
    assert [line["FLOPs / plain target"] for line in lines] == ["0.78", "1.00"]
    assert "FLOPs / plain target" not in markdown(evaluation(), [job(steps=[resampled_step()])])


def test_accuracy_by_level_and_subject() -> None:
    """A line for each value that the data set names, a column for each row; none where it names nothing."""
    jobs = [
        job("p0", level="1", subject="Algebra"),
        job("p1", level="5", subject="Algebra", is_correct=False),
        job("p2", level="5", subject="Geometry"),
        job("p2", level="5", subject="Geometry", label="rsd", is_correct=False),
    ]
    text = markdown(evaluation(["gsi", "rsd"]), jobs)
    assert table_under("Accuracy by level, %", text) == [
        {"level": "1", "problems": "1", "gsi, 4": "100.0", "rsd, 4": "-"},
        {"level": "5", "problems": "2", "gsi, 4": "50.0", "rsd, 4": "0.0"},
    ]
    assert [line["subject"] for line in table_under("Accuracy by subject, %", text)] == ["Algebra", "Geometry"]
    assert "Accuracy by" not in markdown(evaluation(), [job()])


def test_rewards_of_both_models_are_compared_where_both_wrote() -> None:
    """At the steps that were resampled; accepted steps have no candidate of the target."""
    jobs = [job(f"p{i}", steps=[accepted_step(), resampled_step(0.2, 0.8)]) for i in range(3)]
    (line,) = table_under("Draft's against target's rewards", markdown(evaluation(), jobs))
    assert (line["steps"], line["draft"], line["target"]) == ("3", "0.200", "0.800")
    assert line["target - draft"].startswith("0.6 [")
    assert "Draft's against" not in markdown(evaluation(), [job(steps=[accepted_step()])])


def test_unknown_flops_are_left_out() -> None:
    """If no model's size is known there is no column of FLOPs; tokens are still counted."""
    unknown = {role: RecordedModel(model="m") for role in MODELS}
    text = markdown(evaluation(), [job(steps=[accepted_step()], models=unknown)])
    (line,) = table_under("Cost", text)
    assert line["draft writes"] == "1"
    assert not any("FLOPs" in column for column in line)


def test_methods_are_compared_with_the_target() -> None:
    """In points, with a sign, problem by problem."""
    (line,) = table_under("Paired differences", markdown(*a_small_evaluation()))
    assert line["difference, points"].startswith("+25.0 [-")
    assert (line["method"], line["minus"], line["problems"]) == ("gsi", REFERENCE, "2")


def test_solved_by_the_draft_alone() -> None:
    """Only methods that can reject are listed: of the others it is known."""
    (line,) = table_under("Solved by the draft alone", markdown(*a_small_evaluation()))
    assert line == {"method": "gsi", "n": "4", "draft alone, %": "50.0", "and correct, %": "50.0"}


def test_disagreements_are_listed() -> None:
    """With the answer as code, and a bar in it escaped."""
    text = markdown(*a_small_evaluation())
    assert "The graders disagree on 1 of 8 answers." in text
    (line,) = table_under("Disagreements between the graders", text)
    assert (line["problem"], line["expected"], line["answer"], line["strict"]) == ("p0", "`7`", "`7\\|0`", "wrong")


def test_only_the_first_disagreements_are_listed() -> None:
    """The count is of all."""
    text = markdown(evaluation(), [job(f"p{i}", is_correct_strict=False) for i in range(30)])
    assert "The graders disagree on 30 of 30 answers; the first 20." in text
    assert len(table_under("Disagreements between the graders", text)) == 20


def test_agreement_is_said() -> None:
    """No table where there is nothing to list."""
    assert "None: both graders say the same of every answer." in markdown(evaluation(), [job()])


def test_failures_are_listed() -> None:
    """With their state and error; there is no such section where every job succeeded."""
    failed = job("p1", state=JobState.FAILED, stop_reason=None, is_correct=False, error="prompt: `x` is\nnot allowed")
    text = markdown(evaluation(), [job(), failed])
    assert "1 job did not succeed. Failed jobs are no answers, neither right nor wrong" in text
    (row,) = table_under("Accuracy and speed", text)
    assert (row["accuracy, %"], row["failed"]) == ("100.0 [2.5, 100.0]", "1 of 2: `` prompt: `x` is not allowed ``")
    (row,) = table_under("Accuracy and speed", markdown(evaluation(), [failed]))
    assert row["accuracy, %"] == "FAILED"
    (line,) = table_under("Failures", text)
    assert (line["state"], line["error"]) == ("FAILED", "`` prompt: `x` is not allowed ``")
    (endings,) = table_under("How the jobs ended", text)
    assert (endings["jobs"], endings["ANSWER"], endings["FAILED"]) == ("2", "1", "1")
    assert "## Failures" not in markdown(evaluation(), [job()])


def test_a_row_without_a_right_answer_is_named() -> None:
    """It is more often a wrong data set than a bad method."""
    text = markdown(evaluation(), [job(is_correct=False), job(n=8)])
    assert "Not one answer is right: gsi, n = 4. Is it the right data set" in text
    assert "Not one answer" not in markdown(evaluation(), [job()])


def test_a_prompt_is_shown_as_the_models_read_it() -> None:
    """With the chat template's control tokens, and with what is expected."""
    text = markdown(evaluation(), [job(rendered_prompt="<|im_start|>user\n2 + 3<|im_end|>")])
    assert "## A prompt as rendered\n\n    <|im_start|>user\n    2 + 3<|im_end|>\n\nExpected: `7`." in text


def test_an_incomplete_row_is_named() -> None:
    """Nobody compares half a row with a whole one unawares."""
    jobs = [job("p0"), job("p1"), job("p0", label="rsd")]
    assert "Not complete: rsd, n = 4 (1 of 2)." in markdown(evaluation(["gsi", "rsd"]), jobs)
    assert "Not complete" not in markdown(evaluation(), jobs[:2])


def test_plots_are_shown() -> None:
    """As images, by the path from the report, with a text for those who do not see them."""
    text = markdown(evaluation(), [job()], [PurePath("plots/accuracy-over-n.png")])
    assert "![Accuracy over n](plots/accuracy-over-n.png)" in text.splitlines()
    assert "## Plots" not in markdown(evaluation(), [job()])


def test_before_the_first_job() -> None:
    """A report can be made at any time."""
    text = markdown(evaluation(), [])
    assert "No job has finished yet." in text
    assert "|" not in text
    assert report.build_report_json(evaluation(), [], [])["rows"] == []


def test_json_is_plain_and_finite() -> None:
    """The whole report, by the names of the figures; also where a record has values that JSON has no numbers for."""
    conditions, jobs = a_small_evaluation()
    jobs.append(job("p0", label="odd", params={"reward_floor": -math.inf}))
    rows = figures.compute_rows(conditions, jobs)
    made = report.build_report_json(conditions, jobs, rows)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    _, gsi, odd = made["rows"]
    assert gsi["accuracy"] == {"value": 0.75, "low": rows[1].accuracy.low, "high": rows[1].accuracy.high}
    assert gsi["tokens_per_problem"]["target_scored"] == 1000
    assert "accuracy_by_problem" not in gsi
    assert odd["params"]["reward_floor"] == "-Infinity"
    (prm,) = made["models"]["prm"]
    assert prm.items() >= {"model": "tiny-prm", "engine": "transformers", "num_parameters": 50}.items()
    assert made["comparisons"][0]["difference"]["value"] == 0.25
    assert [each["answer"] for each in made["disagreements"]] == ["7|0"]
    assert made["evaluation"]["labels"] == [REFERENCE, "gsi"]


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_answer_breaks_a_table(expected: str, answer: str) -> None:
    """Whatever was answered, every line of the table has its seven cells and the same width on a terminal."""
    text = markdown(evaluation(), [job(expected=expected, answer=answer, is_correct_strict=False)])
    lines = text.split("## Disagreements between the graders\n")[1].split("\n\n")[1].rstrip("\n").split("\n")
    assert len(lines) == 3
    assert {wcswidth(line) for line in lines} == {wcswidth(lines[0])}
    assert [line.replace("\\|", "").count("|") for line in lines] == [8, 8, 8]


@pytest.mark.parametrize(
    ("value", "printed"),
    [(None, "-"), (0, "0.00"), (0.123, "0.12"), (9.996, "10.0"), (12.34, "12.3"), (99.96, "100"), (12345.6, "12,346")],
)
def test_significant_digits(value: float | None, printed: str) -> None:
    """As many digits as can be meant."""
    assert tables.format_significant(value) == printed


@pytest.mark.parametrize(
    ("share", "sign", "printed"),
    [
        (None, "", "-"),
        (Estimate(0.5), "", "50.0"),
        (Estimate(0.5, 0.5 - 0.1234, 0.5 + 0.1234), "+", "+50.0 [+37.7, +62.3]"),
        (Estimate(-0.05, -0.05, -0.05), "+", "-5.0 [-5.0, -5.0]"),
    ],
)
def test_percentages(share: Estimate | None, sign: str, printed: str) -> None:
    """In percent, with the interval where there is one."""
    assert tables.format_percent_with_interval(share, sign) == printed


@pytest.mark.parametrize(
    ("num_parameters", "printed"),
    [(10, "10 parameters"), (432_128, "432 k parameters"), (1_543_714_304, "1.54 B parameters"), (None, "tiny, vllm")],
)
def test_sizes_of_models(num_parameters: int | None, printed: str) -> None:
    """Parameters as the field counts them, or nothing where the engine cannot tell."""
    model = RecordedModel(model="tiny", engine="vllm", num_parameters=num_parameters)
    assert printed in markdown(evaluation(), [job(models={"draft": model})])


@pytest.mark.parametrize(
    ("model", "shown"), [("Qwen/Qwen2.5-Math-PRM-7B", "Qwen/Qwen2.5-Math-PRM-7B"), ("/home/somebody/models/prm", "prm")]
)
def test_names_of_models(model: str, shown: str) -> None:
    """A name from the hub stays whole; where a model lies on somebody's machine is nobody's business."""
    text = markdown(evaluation(), [job(models={"prm": RecordedModel(model=model)})])
    assert f"- **prm**: {shown}" in text.splitlines()


def test_all_right_is_no_certainty() -> None:
    """Two right answers of two are compatible with an accuracy of 16 %, and the table says so."""
    (row,) = table_under("Accuracy and speed", markdown(evaluation(), [job("p0"), job("p1")]))
    assert row["accuracy, %"] == "100.0 [15.8, 100.0]"


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Estimate(0.02, 0.01, 0.03), "as in the paper"),
        (Estimate(0.02, -0.01, 0.05), "no difference shown"),
        (Estimate(-0.02, -0.03, -0.01), "reversed"),
    ],
)
def test_an_order_is_the_papers_only_where_the_interval_shows_it(difference: Estimate, verdict: str) -> None:
    """An interval that holds 0 shows nothing; and RSD is the lowest in the GSI paper's Table 1."""
    assert judge_order(difference) == verdict
    assert PAPERS_ORDER[0] == ("rsd", "soft-best-of-n:draft")
