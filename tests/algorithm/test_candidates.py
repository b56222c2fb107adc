"""Candidates, scores and trajectories: what they refuse, and what they add up to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Candidate, FinishReason, Outcome, Score, Source, Step, in_index_order
from tests.algorithm.worlds import START


def step(index: int, token_ids: tuple[int, ...], text: str) -> Step:
    return Step(index, token_ids, text, Source.DRAFT, Outcome.ACCEPTED, FinishReason.DELIMITER, 0.5, 0.5)


def test_a_candidate_has_tokens() -> None:
    """An empty step would be proposed again for ever."""
    with pytest.raises(ValueError, match="candidate 3 has no tokens"):
        Candidate(3, (), "", -1.0, FinishReason.DELIMITER)


@pytest.mark.parametrize("log_likelihood", [-math.inf, math.nan, math.inf, 0.01])
def test_a_candidate_was_sampled_so_its_likelihood_is_a_probability_above_0(log_likelihood: float) -> None:
    """What has probability 0 is not sampled."""
    with pytest.raises(ValueError, match="log-likelihood"):
        Candidate(0, (1,), "a", log_likelihood, FinishReason.DELIMITER)


def test_a_candidate_may_be_certain_and_pass_0_by_rounding() -> None:
    """Greedy sampling gives log 1 = 0, and float sums a hair more."""
    assert Candidate(0, (1,), "a", 1e-7, FinishReason.EOS).log_likelihood == 1e-7


def test_a_trajectory_is_the_prompt_followed_by_its_steps() -> None:
    """Token ids include the prompt; text and the count of step tokens do not."""
    longer = START.extend(step(0, (1, 2), "one\n\n"), step(1, (3,), "two"))
    assert longer.token_ids == (*START.prompt.token_ids, 1, 2, 3)
    assert longer.text == "one\n\ntwo"
    assert longer.num_step_tokens == 3


def test_extending_a_trajectory_leaves_the_old_one_as_it_was() -> None:
    """Whoever holds a prefix can resume from it."""
    START.extend(step(0, (1,), "one"))
    assert START.steps == ()


@given(st.permutations([Score(i, i / 10) for i in range(8)]))
def test_scores_are_put_in_the_order_of_their_candidates(scores: list[Score]) -> None:
    """They arrive in completion order."""
    assert in_index_order(scores, 8, "prm") == [i / 10 for i in range(8)]


@pytest.mark.parametrize("indices", [[], [0], [0, 0], [0, 1, 1], [0, 1, 2], [0, 2], [-1, 0]])
def test_each_candidate_is_scored_exactly_once(indices: list[int]) -> None:
    """A missing, repeated or unknown index is an error that says what came."""
    with pytest.raises(RuntimeError, match=r"prm must be given once for each of 2 candidates; got \["):
        in_index_order([Score(i, 0.5) for i in indices], 2, "prm")
