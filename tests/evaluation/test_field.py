"""``make bench-field``: every method is run or left out with a reason, and a claim is judged by intervals alone."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.field import passes
from benchmarks.field.claim import Claim
from benchmarks.field.claims import CLAIMS, judge_claims
from benchmarks.field.figures import Field, make_field, measure_union
from benchmarks.field.methods import LEFT_OUT, VARIANTS, list_labels
from benchmarks.field.passes import FULL, Size, estimate_hours
from benchmarks.field.plots import write_plots
from benchmarks.field.report import build_report, format_report
from benchmarks.field.tests_of_claims import (
    ClaimTest,
    Verdict,
    accepts,
    all_of,
    faster,
    fewer_flops,
    hardly_less_accurate,
    more_accurate,
)
from gsi.algorithm.methods import METHODS
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan, plan_rows
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.session import System
from gsi.jobs.state import JobState
from tests.evaluation.made_records import accepted_step, evaluation, job, resampled_step

GSI, TARGET = ("gsi", 4), ("target", 1)


def test_every_method_is_run_or_left_out_with_a_reason() -> None:
    """A new method appears by itself; a name in the tables that no method has is a mistake."""
    labels = list_labels()
    run = {label.partition(":")[0] for label in labels}
    assert run | set(LEFT_OUT) == set(METHODS)
    assert not run & set(LEFT_OUT)
    assert {*VARIANTS, *LEFT_OUT} <= set(METHODS)
    assert all(label.partition(":")[0] == name for name, some in VARIANTS.items() for label in some)
    assert list_labels(["new-method"]) == ("new-method",)


def test_every_row_that_is_asked_for_is_allowed() -> None:
    """The plan of the whole run parses: no option of a variant is unknown to its method."""
    rows = plan_rows(Plan(dataset="arithmetic", methods=list_labels(), ns=FULL.ns, seeds=1))
    assert {row.label for row in rows} == set(list_labels())


def test_every_claim_names_a_method_and_rows_that_are_run() -> None:
    """A claim has a test or a reason, never both; a test reads rows of the whole run."""
    rows = plan_rows(Plan(dataset="arithmetic", methods=list_labels(), ns=FULL.ns, seeds=1))
    keys = {(row.label, row.n) for row in rows}
    for claim in CLAIMS:
        assert claim.method in METHODS, claim
        assert (claim.test is None) == bool(claim.why_not), claim
        assert claim.source
        if claim.test is not None:
            assert set(claim.test.keys) <= keys, claim


def make_jobs(
    label: str, n: int, num_right: int, seconds: float, num_problems: int = 100, seed: int = 0
) -> list[RecordedJob]:
    """Return a job for each problem, one after the other; GSI's third step is the target's."""
    steps = [accepted_step(), accepted_step(), resampled_step()] if label == "gsi" else [accepted_step(num_tokens=9)]
    return [
        job(
            f"p{i:03}",
            label=label,
            n=n,
            seed=seed,
            is_correct=i < num_right,
            steps=steps,
            started_at=10.0 * i,
            finished_at=10.0 * i + seconds,
        )
        for i in range(num_problems)
    ]


def make_made_field(gsi: Sequence[RecordedJob], target: Sequence[RecordedJob]) -> Field:
    """Return a field whose full load has the same jobs as the pass alone."""
    again = [one.model_copy(update={"seed": 1}) for one in (*gsi, *target)]
    return make_field(evaluation(("gsi", "target")), [*gsi, *target], again)


FIELD = make_made_field(make_jobs("gsi", 4, 90, 2.0), make_jobs("target", 1, 50, 6.0))


def test_figures_are_those_of_both_passes_and_seconds_those_of_one() -> None:
    """200 answers to 100 problems; 2 s an answer alone; at full load jobs that follow each other take 2 s too."""
    row = FIELD.find(GSI)
    assert row is not None
    assert (row.row.answered, row.row.problems, row.row.accuracy.value) == (200, 100, 0.9)
    assert row.seconds_alone is not None
    assert row.seconds_alone.value == pytest.approx(2.0)
    assert row.seconds_loaded == pytest.approx(2.0)
    assert row.row.acceptance_rate is not None
    assert row.row.acceptance_rate.value == pytest.approx(2 / 3)
    assert [one.key for one in FIELD.front_over_seconds] == [GSI]


def test_jobs_at_the_same_time_share_the_seconds_and_a_pause_does_not_count() -> None:
    """Two jobs that overlap, one inside another, and one after a night."""
    assert measure_union([(0.0, 4.0), (2.0, 6.0)]) == 6.0
    assert measure_union([(0.0, 4.0), (1.0, 2.0)]) == 4.0
    assert measure_union([(0.0, 4.0), (9000.0, 9001.0)]) == 5.0
    assert measure_union([]) == 0.0


def judge(test: ClaimTest, field: Field = FIELD) -> Verdict:
    return test.run(field).verdict


def test_a_claim_is_seen_where_the_interval_shows_it() -> None:
    """Each test on figures that show it, and the same claim the other way round."""
    assert judge(more_accurate(GSI, TARGET)) is Verdict.SEEN
    assert judge(more_accurate(TARGET, GSI)) is Verdict.NOT_SEEN
    assert judge(faster(GSI, TARGET)) is Verdict.SEEN
    assert judge(faster(GSI, TARGET, at_least=2.9)) is Verdict.SEEN
    assert judge(faster(GSI, TARGET, at_least=3.1)) is Verdict.NOT_SEEN
    assert judge(faster(TARGET, GSI)) is Verdict.NOT_SEEN
    assert judge(fewer_flops(TARGET, GSI)) is not judge(fewer_flops(GSI, TARGET))
    assert judge(accepts(GSI, 0.5)) is Verdict.SEEN
    assert judge(accepts(GSI, 0.6)) is Verdict.NOT_SEEN
    assert judge(hardly_less_accurate(GSI, TARGET, 0.02)) is Verdict.SEEN


def test_an_interval_that_decides_nothing_shows_nothing() -> None:
    """One problem more of ten is no difference; and no difference of ten problems is no proof of none."""
    close = make_made_field(make_jobs("gsi", 4, 8, 2.0, 10), make_jobs("target", 1, 7, 2.0, 10))
    assert judge(more_accurate(GSI, TARGET), close) is Verdict.NOT_SEEN
    assert judge(hardly_less_accurate(TARGET, GSI, 0.02), close) is Verdict.NOT_SEEN
    assert judge(faster(GSI, TARGET), close) is Verdict.NOT_SEEN


def test_what_was_not_run_or_cannot_be_measured_is_not_testable() -> None:
    """A row that is missing, a row without an answer, a method that rejects nothing; each with its reason."""
    assert more_accurate(("rsd", 4), GSI).run(FIELD).why == "rsd, n = 4 was not run"
    dead = [one.model_copy(update={"state": JobState.FAILED}) for one in make_jobs("gsi", 4, 0, 1.0, 3)]
    failed = make_made_field(dead, make_jobs("target", 1, 2, 1.0, 3))
    found = more_accurate(GSI, TARGET).run(failed)
    assert (found.verdict, found.why) == (Verdict.NOT_TESTABLE, "gsi, n = 4 gave no answer")
    assert judge(accepts(TARGET, 0.5)) is Verdict.NOT_TESTABLE
    reasoned = Claim("gsi", "says more", "a paper", why_not="nobody knows")
    assert judge_claims(FIELD, [reasoned])[0].why == "nobody knows"


def test_a_claim_of_two_parts_is_seen_when_both_are() -> None:
    """The worse verdict counts, and both figures are told."""
    both = all_of(more_accurate(GSI, TARGET), faster(GSI, TARGET)).run(FIELD)
    assert both.verdict is Verdict.SEEN
    assert both.why.count("gsi, n = 4") == 2
    assert judge(all_of(more_accurate(GSI, TARGET), faster(TARGET, GSI))) is Verdict.NOT_SEEN


def test_the_time_of_a_whole_run_is_that_of_all_passes() -> None:
    """(2 + 6) seconds alone and as much at full load, of 225 problems in each of two rounds; and 450 untimed ones."""
    assert estimate_hours(FIELD, Size(timed=225, untimed=0, rounds=2)) == pytest.approx(2.0)
    assert estimate_hours(FIELD, Size(timed=225, untimed=450, rounds=2)) == pytest.approx(3.0)


def test_all_passes_ask_the_same_problems_with_fresh_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One job at a time, at full load, and untimed, each in a folder of its own that a later run resumes."""
    asked: list[tuple[Plan, int]] = []

    def run(plan: Plan, folder: Folder, system: System) -> None:
        asked.append((plan, system.num_jobs))
        folder.begin(plan, evaluation(("gsi",)))
        for seed in range(plan.seed_offset, plan.seed_offset + plan.seeds):
            folder.append(make_jobs("gsi", 4, 1, 2.0, 1, seed)[0])

    monkeypatch.setattr(passes, "run_with_progress", run)
    field = passes.measure(Size(timed=1, untimed=3, rounds=2), tmp_path)
    (untimed, _), (alone, one), (loaded, many) = asked
    assert (one, many) == (1, passes.FULL_LOAD)
    assert (untimed.limit, untimed.seeds, untimed.seed_offset) == (3, 1, 4)
    assert alone == loaded.model_copy(update={"seed_offset": 0})
    assert (alone.seeds, loaded.seed_offset) == (2, 2)
    row = field.find(GSI)
    assert row is not None
    assert row.row.answered == 5
    assert len(list(tmp_path.iterdir())) == 3


def test_seconds_of_several_rounds_are_averaged_problem_by_problem() -> None:
    """Two seconds in the first round, four in the second."""
    again = [one.model_copy(update={"seed": 1, "finished_at": 14.0}) for one in make_jobs("gsi", 4, 1, 0.0, 1)]
    first = make_jobs("gsi", 4, 1, 2.0, 1)
    again = [one.model_copy(update={"started_at": 10.0}) for one in again]
    row = make_field(evaluation(("gsi",)), [*first, *again], []).find(GSI)
    assert row is not None
    assert row.seconds_by_problem == {"p000": 3.0}
    assert row.seconds_loaded is None


def test_the_section_shows_rows_claims_and_what_is_missing(tmp_path: Path) -> None:
    """The tables, each verdict, both plots in both forms, and why a method is not there."""
    size = Size(timed=100, untimed=0)
    text = format_report(build_report(FIELD, size))
    for part in (
        "16 in the queue",
        "| gsi ",
        "Not measured: `speculative-decoding`",
        "### What the papers",
    ):
        assert part in text
    for verdict in (Verdict.SEEN, Verdict.NOT_TESTABLE):
        claims = [Claim("gsi", "is fast", "a paper", faster(GSI, TARGET)), Claim("gsi", "is good", "b", why_not="no")]
        assert f"**{verdict}**" in format_report(build_report(FIELD, size, claims))
    names = {path.name for path in write_plots(FIELD, tmp_path)}
    assert len(names) == 4
    assert all(name in text for name in names)
