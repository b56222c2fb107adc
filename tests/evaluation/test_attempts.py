"""pass@k and best-of-k from records, against counting every choice of k answers."""

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Source
from gsi.evaluation.attempts import SCORES, Attempt, compute_attempts, estimate_best, estimate_pass, list_attempts
from gsi.jobs.state import JobState
from gsi.jobs.step_record import BranchRecord, KeptStep, StepRecord
from tests.evaluation.made_records import accepted_step, job, step

attempts = st.lists(
    st.builds(Attempt, st.booleans(), st.tuples(st.floats(0, 1), st.floats(0, 1))), min_size=1, max_size=7
)


@given(attempts, st.data())
def test_both_figures_are_means_over_every_choice(found: list[Attempt], data: st.DataObject) -> None:
    """Drawing without replacement, whatever the rewards are."""
    k = data.draw(st.integers(1, len(found)))
    choices = list(combinations(found, k))
    num_right = sum(attempt.is_correct for attempt in found)
    counted = fmean(any(attempt.is_correct for attempt in choice) for choice in choices)
    assert estimate_pass(len(found), num_right, k) == pytest.approx(counted)
    for score in SCORES.values():
        best = fmean(max(choice, key=lambda attempt: score(attempt.rewards)).is_correct for choice in choices)
        assert estimate_best(found, score, k) == pytest.approx(best)


def test_the_seeds_of_a_problem_are_its_answers() -> None:
    """The second of two answers is right and has the higher reward; a failed job is no answer."""
    jobs = [
        job("p0", seed=0, is_correct=False, steps=[accepted_step(reward=0.3)]),
        job("p0", seed=1, steps=[accepted_step(reward=0.9)]),
        job("p1", seed=0, steps=[accepted_step(reward=0.9)]),
        job("p1", seed=1, state=JobState.FAILED, is_correct=False),
    ]
    once, twice = compute_attempts(jobs)
    assert (once.k, once.problems, once.pass_at_k) == (1, 2, 0.75)
    assert (twice.k, twice.problems, twice.pass_at_k, twice.best_of_k["last"]) == (2, 1, 1.0, 1.0)


def kept(text: str, reward: float | None) -> KeptStep:
    return KeptStep.model_validate({**step(source=Source.DRAFT).to_dict(), "text": text, "reward": reward})


def round_of(*branches: BranchRecord) -> StepRecord:
    return step().model_copy(update={"branches": branches})


@pytest.mark.parametrize(
    ("rewards", "read", "best"),
    [
        ((0.9, 0.8, 0.1), ((0.9, 0.1), (0.8,)), {"last": 0.0, "minimum": 0.0, "product": 0.0}),
        ((None, 0.8, 0.1), ((0.1,), (0.8,)), {"last": 0.0}),  # the PRM rated each response when it ended
        ((None, None, None), ((), ()), {}),
    ],
)
def test_the_responses_of_a_job_are_read_off_its_rounds(
    rewards: tuple[float | None, ...], read: tuple[tuple[float, ...], ...], best: dict[str, float]
) -> None:
    """Two responses, one of which ends a round before the other; each is graded, also the one that was not chosen."""
    rounds = [
        round_of(
            BranchRecord(parent=0, step=kept("1 + 6 =\n\n", rewards[0])),
            BranchRecord(parent=1, step=kept(r"\boxed{8}", rewards[1])),
        ),
        round_of(BranchRecord(parent=0, step=kept(r"\boxed{7}", rewards[2])), BranchRecord(parent=1)),
    ]
    made = job(label="best-of-n" if best else "majority-vote", n=2, steps=rounds, is_correct=False)
    first, second = list_attempts(made)
    assert (first.is_correct, second.is_correct) == (True, False)
    assert (first.rewards, second.rewards) == read
    once, twice = compute_attempts([made])
    assert (once.pass_at_k, twice.pass_at_k) == (0.5, 1.0)
    assert twice.best_of_k == best


@pytest.mark.parametrize(("scope", "num_answers"), [("responses", 2), ("steps", 1)])
def test_soft_best_of_n_has_several_answers_over_responses_alone(scope: str, num_answers: int) -> None:
    """A job over steps has one answer, whose grade is on record."""
    branches = [BranchRecord(parent=place, step=kept(rf"\boxed{{{7 + place}}}", 0.5)) for place in range(2)]
    made = job(label="soft-best-of-n", n=2, steps=[round_of(*branches)], params={"scope": scope})
    assert len(list_attempts(made)) == num_answers


def test_responses_that_were_stopped_by_their_scores_are_one_answer() -> None:
    """With an n_rule the last of them is no response like the others: it ended the job by its score."""
    branches = [BranchRecord(parent=place, step=kept(rf"\boxed{{{7 + place}}}", 0.5)) for place in range(2)]
    params = {"scope": "responses", "n_rule": {"name": "threshold", "level": 0.5}}
    made = job(label="best-of-n", n=4, steps=[round_of(*branches, BranchRecord(parent=2))], params=params)
    assert [attempt.is_correct for attempt in list_attempts(made)] == [True]


def test_the_rewards_of_an_answer_are_those_of_its_own_steps() -> None:
    """In a search another trajectory may lead the records; one whose text is no trajectory's has no rewards."""
    rounds = [
        round_of(*(BranchRecord(parent=0, step=kept(text, reward)) for text, reward in (("a ", 0.9), ("b ", 0.5)))),
        round_of(BranchRecord(parent=1, step=kept("8", 0.2)), BranchRecord(parent=0, step=kept("7", 0.4))),
    ]
    made = job(label="beam-search", n=2, steps=rounds).model_copy(update={"text": "a 7"})
    assert list_attempts(made)[0].rewards == (0.9, 0.4)
    assert list_attempts(made.model_copy(update={"text": "c"}))[0].rewards == ()


@pytest.mark.parametrize(("thinking", "is_right"), [(None, True), (False, False)])
def test_a_response_that_ends_in_its_trace_has_no_answer(thinking: bool | None, is_right: bool) -> None:
    """What a thinking model tries in its trace is not graded, unless the job says that its texts have none."""
    traces = ("<think>8?</think>\n\n\\boxed{7}", r"<think>\boxed{7}")
    rounds = [round_of(*(BranchRecord(parent=place, step=kept(text, 0.5)) for place, text in enumerate(traces)))]
    made = job(label="majority-vote", n=2, steps=rounds, params={"thinking": thinking})
    first, second = list_attempts(made)
    assert (first.is_correct, second.is_correct) == (True, not is_right)


def test_one_answer_leaves_no_choice() -> None:
    """Then there is pass@1 alone."""
    assert [each.k for each in compute_attempts([job(), job("p1")])] == [1]
