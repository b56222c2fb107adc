"""Every figure, on records whose figures can be computed by hand; the intervals against scipy."""

import math
import statistics
from dataclasses import astuple, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gsi.algorithm.candidates import Outcome, Source
from gsi.evaluation.cases import StepRewards, collect_rewards, list_disagreements, list_failures, list_models
from gsi.evaluation.costs import count_tokens, estimate_job_flops
from gsi.evaluation.estimates import Estimate, estimate_difference, estimate_mean, estimate_ratio, estimate_share
from gsi.evaluation.figures import (
    Row,
    compare_accuracies,
    compare_rows,
    compute_rows,
    find_row,
    find_target_alone,
    is_by_draft_alone,
)
from gsi.evaluation.records import Identity, RecordedJob, RecordedModel
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
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

TARGET_LABEL = "soft-best-of-n:target"


def only_row(*jobs: RecordedJob) -> Row:
    (row,) = compute_rows(evaluation(), jobs)
    return row


def graded(label: str, rights: dict[str, list[bool]], n: int = 4) -> list[RecordedJob]:
    """Return jobs that were right or wrong: for each problem, one value for each seed."""
    return [
        job(problem, label=label, n=n, seed=seed, is_correct=right)
        for problem, of_seeds in rights.items()
        for seed, right in enumerate(of_seeds)
    ]


def test_rows_come_as_the_evaluation_names_them() -> None:
    """Labels as asked for, then those that were not; n ascending."""
    jobs = [job(label=label, n=n) for label, n in (("b", 16), ("z", 1), ("a", 4), ("b", 4), ("y", 1))]
    found = [(row.label, row.n) for row in compute_rows(evaluation(["b", "a", "never ran"]), jobs)]
    assert found == [("b", 4), ("b", 16), ("a", 4), ("y", 1), ("z", 1)]


def test_no_jobs_no_rows() -> None:
    """Before the first job is done there is nothing to show, and no error."""
    assert compute_rows(evaluation(), []) == []


def test_accuracy_averages_a_problems_seeds_first() -> None:
    """Two problems with 1 and 1/2 right: 3/4, with the interval of these two numbers, not of four."""
    row = only_row(*graded("gsi", {"p0": [True, True], "p1": [True, False]}))
    assert (row.problems, row.seeds, row.jobs) == (2, 2, 4)
    assert row.accuracy_by_problem == {"p0": 1.0, "p1": 0.5}
    assert row.accuracy.value == 0.75
    assert row.accuracy == estimate_share([1.0, 0.5], 4)


def test_accuracy_over_seeds() -> None:
    """Three seeds with 2/2, 1/2 and 1/2 right: their mean, their standard deviation and their t-interval."""
    row = only_row(*graded("gsi", {"p0": [True, True, False], "p1": [True, False, True]}))
    of_seeds = [1.0, 0.5, 0.5]
    assert row.accuracy_over_seeds.value == pytest.approx(2 / 3)
    assert row.seeds_standard_deviation == pytest.approx(statistics.stdev(of_seeds))
    low, high = stats.t.interval(0.95, 2, loc=2 / 3, scale=stats.sem(of_seeds))
    assert (row.accuracy_over_seeds.low, row.accuracy_over_seeds.high) == pytest.approx((low, high))


def test_one_observation_says_next_to_nothing() -> None:
    """One right answer excludes accuracies under 2.5 %, and one seed says nothing of others."""
    row = only_row(job(steps=[accepted_step()]))
    assert (row.accuracy.value, row.accuracy.high) == (1.0, 1.0)
    assert row.accuracy.low == pytest.approx(0.025)
    assert row.accuracy_over_seeds == Estimate(1.0)
    assert row.seeds_standard_deviation is None
    assert row.acceptance_rate == row.accuracy


def test_the_strict_grader_has_its_own_accuracy() -> None:
    """One of two answers is right only by the lenient grader."""
    row = only_row(job("p0", is_correct_strict=False), job("p1"))
    assert (row.accuracy.value, row.strict_accuracy.value) == (1.0, 0.5)


def test_acceptance_is_a_share_of_steps() -> None:
    """One of 4 and 2 of 2 steps: 3 of 6, not the mean of 1/4 and 1."""
    some = [accepted_step(), *[resampled_step()] * 3]
    row = only_row(job("p0", steps=some), job("p1", steps=[accepted_step()] * 2))
    assert row.acceptance_rate is not None
    assert row.acceptance_rate.value == 0.5
    assert row.steps_per_problem == 3
    # residuals (1 - 0.5 * 4) / 3 and (2 - 0.5 * 2) / 3; the variance of their mean is 1/9
    num = 0.25 / (1 / 9) * (stats.t.ppf(0.975, 5) / stats.t.ppf(0.975, 1)) ** 2
    assert row.acceptance_rate.low == pytest.approx(stats.beta.ppf(0.025, num / 2, num / 2 + 1))


def test_acceptance_over_responses_is_a_share_of_responses() -> None:
    """However many rounds a response takes: of two jobs one was rejected."""
    anew = step(source=Source.TARGET, outcome=Outcome.RESAMPLED)
    rejected = job("p0", steps=[accepted_step()] * 3 + [anew] * 2, params={"scope": "responses"})
    accepted = job("p1", steps=[accepted_step()], params={"scope": "responses"})
    rate = only_row(rejected, accepted).acceptance_rate
    assert rate is not None
    assert rate.value == 0.5


@pytest.mark.parametrize("label", ["soft-best-of-n:draft", "beam-search", "majority-vote"])
def test_methods_that_cannot_reject_have_no_acceptance(label: str) -> None:
    """They accept every step, which is no finding."""
    assert only_row(job(label=label, steps=[accepted_step()])).acceptance_rate is None


def test_no_steps_no_acceptance() -> None:
    """A row all of whose jobs failed before the first step is still a row."""
    row = only_row(job(state=JobState.FAILED, is_correct=False, models={}))
    assert row.acceptance_rate is None
    assert (row.steps_per_problem, row.flops_per_problem) == (0, 0)
    assert row.timings.seconds_per_step is None


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_an_interval_is_scipys(values: list[float]) -> None:
    """The half width is that of scipy's t-interval of the mean."""
    half_width = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    estimate = estimate_mean(values)
    assert estimate.value == pytest.approx(statistics.mean(values), abs=1e-12)
    assert estimate.high - estimate.low == pytest.approx(2 * half_width, abs=1e-9)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30))
def test_a_ratio_of_equal_wholes_is_a_mean(parts: list[int]) -> None:
    """If every problem has 5 steps, the ratio and its interval are those of the problems' shares."""
    of_ratio = estimate_ratio(parts, [5] * len(parts))
    of_mean = estimate_share([part / 5 for part in parts], 5 * len(parts))
    for one, other in zip(astuple(of_ratio), astuple(of_mean), strict=True):
        assert one == pytest.approx(other, abs=1e-9)


def branching_step(candidates_rated: bool = True) -> StepRecord:
    """Return a round of a method that keeps two trajectories: a proposal of two candidates from each."""
    reward = 0.5 if candidates_rated else None
    proposals = [proposal(Source.TARGET, *[candidate(3, reward=reward)] * 2, parent=p, selected=None) for p in (0, 1)]
    return step(*proposals, source=Source.TARGET)


@pytest.mark.parametrize(
    ("made", "counts"),
    [
        pytest.param(accepted_step(num_tokens=5), (5, 0, 5, 5), id="accepted"),
        pytest.param(resampled_step(num_tokens=5), (5, 5, 5, 10), id="resampled: the replacement is rated too"),
        pytest.param(branching_step(), (0, 12, 0, 12), id="two parents, two candidates of 3 tokens each"),
        pytest.param(branching_step(candidates_rated=False), (0, 12, 0, 0), id="majority vote: no rewards"),
        pytest.param(
            step(proposal(Source.DRAFT, candidate(2, reward=0.1), candidate(3, reward=0.9), selected=1)),
            (5, 0, 0, 5),
            id="the draft alone: the discarded candidate counts, nothing is scored",
        ),
        pytest.param(
            step(proposal(Source.DRAFT, candidate(2, reward=math.nan, log_likelihood_target=-math.inf))),
            (2, 0, 2, 2),
            id="a value that is not finite was computed all the same",
        ),
    ],
)
def test_tokens_by_role(made: StepRecord, counts: tuple[int, int, int, int]) -> None:
    """Draft written, target written, target scored, PRM rated."""
    found = count_tokens(job(steps=[made]))
    assert (found.draft_written, found.target_written, found.target_scored, found.prm_rated) == counts


def test_tokens_are_means_over_jobs() -> None:
    """Jobs of 2 and 4 draft tokens: 3 a problem."""
    row = only_row(job("p0", steps=[accepted_step(num_tokens=2)]), job("p1", steps=[accepted_step(num_tokens=4)]))
    assert row.tokens_per_problem.draft_written == 3


def test_flops_count_all_three_models() -> None:
    """2 N a token: draft 10 parameters, target 100, PRM 50; one resampled step of 5 tokens a candidate."""
    made = job(steps=[resampled_step(num_tokens=5)])
    assert estimate_job_flops(made) == 2 * 10 * 5 + 2 * 100 * (5 + 5) + 2 * 50 * 10
    assert only_row(made).flops_per_problem == estimate_job_flops(made)


@pytest.mark.parametrize(
    "unknown", [{}, MODELS | {"prm": RecordedModel(model="hidden")}], ids=["no model", "no number"]
)
def test_flops_are_unknown_if_a_model_is(unknown: dict[str, RecordedModel]) -> None:
    """A PRM of unknown size that rated something makes the sum unknown, of one job and of its row."""
    made = job(steps=[accepted_step()], models=unknown)
    assert estimate_job_flops(made) is None
    assert only_row(made, job("p1", steps=[accepted_step()])).flops_per_problem is None


def test_a_model_that_did_nothing_need_not_be_known() -> None:
    """Majority vote with the target has no use for the others."""
    made = job(steps=[branching_step(candidates_rated=False)], models={"target": MODELS["target"]})
    assert estimate_job_flops(made) == 2 * 100 * 12


def test_what_is_drafted_inside_an_engine_is_not_known() -> None:
    """So the FLOPs of speculative decoding are not either, by itself or to write a step anew."""
    steps = [step(proposal(Source.TARGET, candidate(3)), source=Source.TARGET)]
    speculating = MODELS | {"target": {"model": "target", "num_parameters": 100, "num_speculative_tokens": 4}}
    assert estimate_job_flops(job(label="target", steps=steps)) == 2 * 100 * 3
    assert estimate_job_flops(job(label="speculative-decoding", steps=steps, models=speculating)) is None
    assert (
        estimate_job_flops(job(label="rsd", steps=[accepted_step()], models=speculating)) is not None
    )  # the target only scored


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"steps": [accepted_step(), accepted_step()]}, True),
        ({"steps": [accepted_step(), resampled_step()]}, False),
        ({"steps": []}, False),
        ({"steps": [accepted_step()], "state": JobState.FAILED}, False),
    ],
)
def test_by_the_draft_alone(fields: dict[str, Any], expected: bool) -> None:
    """Every kept step is the draft's, there is one, and the job came to its end."""
    assert is_by_draft_alone(job(**fields)) is expected


def test_shares_by_the_draft_alone() -> None:
    """Of four answers two are the draft's alone, one of these correct."""
    row = only_row(
        job("p0", steps=[accepted_step()]),
        job("p1", steps=[accepted_step()], is_correct=False),
        job("p2", steps=[resampled_step()]),
        job("p3", steps=[accepted_step(), resampled_step()]),
    )
    assert (row.share_draft_alone, row.share_draft_alone_correct) == (0.5, 0.25)


def test_rows_differ_in_their_timings_alone() -> None:
    """Rows of an evaluation that was stopped and continued differ in their timings and in nothing else."""
    quick = only_row(job(steps=[accepted_step()]))
    slow = only_row(
        job(
            steps=[step(*accepted_step().proposals, reward=0.9, seconds=9.0)],
            started_at=0.0,
            finished_at=900.0,
        )
    )
    assert (quick.timings.seconds_per_step, quick.timings.seconds_per_problem) == (0.5, 2.0)
    assert quick != slow
    assert quick == replace(slow, timings=quick.timings)


def test_a_job_without_times_has_no_seconds() -> None:
    """Times that were not recorded are not taken for 0."""
    row = only_row(job("p0", started_at=None), job("p1", finished_at=105.0))
    assert row.timings.seconds_per_problem == 5.0


def test_states_and_stop_reasons_are_counted() -> None:
    """A failed job is a failure, has no stop reason, and is no wrong answer."""
    failed = job("p2", state=JobState.FAILED, stop_reason=None, is_correct=False, error="prompt: too long")
    row = only_row(job("p0"), job("p1", stop_reason="EOS"), failed)
    assert row.states == {"FAILED": 1, "SUCCEEDED": 2}
    assert row.stop_reasons == {"ANSWER": 1, "EOS": 1}
    assert row.failures == 1
    assert (row.accuracy.value, row.answered, row.failure_reason) == (1.0, 2, "prompt: too long")
    (failure,) = list_failures(evaluation(), [job("p0"), failed])
    assert (failure.problem, failure.state, failure.error) == ("p2", "FAILED", "prompt: too long")


def test_a_method_that_failed_was_not_measured() -> None:
    """All of its jobs failed, so it has no accuracy, and the reason says whether the coordinator is another release."""
    error = 'params.method: "new" is not allowed; allowed: gsi'
    failed = [job(f"p{i}", state=JobState.FAILED, is_correct=False, error=error, models={}) for i in range(3)]
    row = only_row(*failed)
    assert row.has_failed
    assert math.isnan(row.accuracy.value)
    assert row.failure_reason == error
    identity = Identity(system="-", models={}, dataset="-", template="-", code="1.1+bb", coordinator_code="")
    (told,) = compute_rows(evaluation(identity=identity), failed)
    assert told.failure_reason is not None
    assert told.failure_reason.startswith(f"{error} (the coordinator's version is unknown, so an older release")
    assert not only_row(job(is_correct=False)).has_failed
    assert only_row(job(is_correct=False)).has_none_right


def test_shared_parameters() -> None:
    """Each job has a seed of its own, even where there is one job; beta is the row's."""
    row = only_row(job("p0", params={"seed": 1}), job("p1", params={"seed": 2, "extra": 0}))
    assert row.params == {"method": "gsi", "n": 4, "beta": 20.0}
    assert "seed" not in only_row(job(params={"seed": 1})).params


def test_parameters_of_failed_jobs_do_not_count() -> None:
    """They lack what the models would have decided, unless there are no others."""
    failed = job("p1", state=JobState.FAILED, params={"reward_map": None})
    assert only_row(job("p0", params={"reward_map": {"name": "raw"}}), failed).params["reward_map"] == {"name": "raw"}
    assert only_row(failed).params["reward_map"] is None


def test_paired_differences() -> None:
    """Differences 1, 1/2 and 0, problem by problem; their mean and interval."""
    low = graded(TARGET_LABEL, {"p0": [False, False], "p1": [True, False], "p2": [True, True]})
    high = graded("gsi", {"p0": [True, True], "p1": [True, True], "p2": [True, True]})
    of_gsi, of_target = compute_rows(evaluation(["gsi", TARGET_LABEL]), [*low, *high])
    difference = compare_accuracies(of_gsi, of_target)
    assert difference == estimate_difference([1.0, 0.5, 0.0])
    (comparison,) = compare_rows([of_target, of_gsi])
    assert (comparison.label, comparison.other_label, comparison.problems) == ("gsi", TARGET_LABEL, 3)
    assert comparison.difference == difference


def test_any_two_rows_that_share_a_problem_are_a_pair() -> None:
    """Also at another n; a problem that one row has not answered yet is left out."""
    target = graded(TARGET_LABEL, {"p0": [True], "p1": [True]})
    others = [*graded("gsi", {"p0": [True]}, n=16), *graded("rsd", {"p9": [True]}), *graded("beam", {"p1": [False]})]
    found = compare_rows(compute_rows(evaluation([TARGET_LABEL]), [*target, *others]))
    pairs = [(c.label, c.n, c.other_label, c.problems, c.difference.value) for c in found]
    assert pairs == [("beam", 4, TARGET_LABEL, 1, -1.0), ("gsi", 16, TARGET_LABEL, 1, 0.0)]


def test_find() -> None:
    """A row is found by its label and n, or is not there."""
    (row,) = found = compute_rows(evaluation(), [job()])
    assert find_row(found, "gsi", 4) is row
    assert find_row(found, "gsi", 16) is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([("gsi", 1), (TARGET_LABEL, 4)], None),
        ([(TARGET_LABEL, 4), (TARGET_LABEL, 1)], (TARGET_LABEL, 1)),
        ([(TARGET_LABEL, 1), ("target", 1)], ("target", 1)),
    ],
)
def test_the_target_alone(asked: list[tuple[str, int]], expected: tuple[str, int] | None) -> None:
    """The method of this name, or else soft best-of-1, which asks the PRM as well."""
    row = find_target_alone(compute_rows(evaluation(), [job(label=label, n=n) for label, n in asked]))
    assert (row and (row.label, row.n)) == expected


def test_disagreements() -> None:
    """Jobs on which the graders differ, with both answers, in the order of the rows."""
    jobs = [
        job("p1", label="rsd", is_correct_strict=False, answer="7.0"),
        job("p0", is_correct=False, is_correct_strict=True),
        job("p2"),
    ]
    first, second = list_disagreements(evaluation(["gsi", "rsd"]), jobs)
    assert (first.label, first.problem, first.is_correct, first.is_correct_strict) == ("gsi", "p0", False, True)
    assert (second.label, second.n, second.seed, second.expected, second.answer) == ("rsd", 4, 0, "7", "7.0")


def test_models_by_role() -> None:
    """Each distinct model once, roles in their usual order."""
    other = MODELS | {"draft": RecordedModel(model="a-new-draft")}
    found = list_models([job(), job(models=other), job(models={})])
    assert list(found) == ["draft", "target", "prm"]
    assert {each.model for each in found["draft"]} == {"tiny-draft", "a-new-draft"}
    assert found["prm"] == [MODELS["prm"]]


steps = st.lists(st.sampled_from([accepted_step(num_tokens=3), resampled_step(), branching_step()]), max_size=4)
jobs_of_all_kinds = st.lists(
    st.builds(
        job,
        st.sampled_from(["p0", "p1", "p2"]),
        label=st.sampled_from(["gsi", "rsd:binary=0.7", TARGET_LABEL]),
        n=st.sampled_from([1, 4]),
        seed=st.integers(0, 2),
        is_correct=st.booleans(),
        steps=steps,
        finished_at=st.floats(101, 200),
    ),
    max_size=20,
)


@given(jobs_of_all_kinds, st.randoms())
def test_the_order_of_jobs_changes_nothing(jobs: list[RecordedJob], random: Any) -> None:
    """Jobs finish in any order; the figures are the same to the last bit."""
    shuffled = random.sample(jobs, len(jobs))
    conditions = evaluation(["gsi", "rsd:binary=0.7", TARGET_LABEL])
    assert compute_rows(conditions, shuffled) == compute_rows(conditions, jobs)


@given(jobs_of_all_kinds)
def test_shares_are_shares(jobs: list[RecordedJob]) -> None:
    """What is correct and the draft's alone is at most either of the two; steps are accepted in [0, 1]."""
    for row in compute_rows(evaluation(), jobs):
        assert 0 <= row.share_draft_alone_correct <= row.share_draft_alone <= 1
        assert row.acceptance_rate is None or 0 <= row.acceptance_rate.value <= 1
        assert sum(row.states.values()) == row.jobs


def test_rewards_of_accepted_and_rejected_steps() -> None:
    """By label, over all n: kept drafts, drawn drafts that failed, and what the target wrote instead."""
    drafted = proposal(Source.DRAFT, candidate(reward=0.3), candidate(reward=0.1), selected=1)
    written = proposal(Source.TARGET, candidate(reward=0.7), candidate(reward=0.6))
    resampled = step(drafted, written, source=Source.TARGET, outcome=Outcome.RESAMPLED, reward=0.7)
    unrated = step(proposal(Source.DRAFT, candidate(reward=math.nan)), reward=math.nan)
    jobs = [
        job(n=1, steps=[accepted_step(reward=0.9), resampled]),
        job(n=4, steps=[accepted_step(reward=0.8), unrated]),
        job(label="rsd", steps=[resampled_step(rejected_reward=0.2, reward=0.5)]),
        job(label=TARGET_LABEL, steps=[accepted_step()]),
    ]
    found = collect_rewards(evaluation(["rsd", "gsi"]), jobs)
    assert list(found) == ["rsd", "gsi"]
    assert found["gsi"] == StepRewards(accepted=(0.8, 0.9), rejected=(0.1,), replacement=(0.7,))
    assert found["rsd"] == StepRewards(accepted=(), rejected=(0.2,), replacement=(0.5,))
