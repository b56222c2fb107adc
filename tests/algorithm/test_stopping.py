"""When a trajectory is finished, and which of several reasons is told."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import FinishReason, Outcome, Source, Step, Trajectory
from gsi.algorithm.params import StopRules
from gsi.algorithm.stopping import StopReason, stop_reason, tokens_left
from tests.algorithm.worlds import START

MAX_LENGTH = 1000
NO_LIMITS = StopRules()
EVERY_LIMIT = StopRules(max_steps=2, max_tokens=4, reward_floor=0.1)


def answered(*texts: str, best_reward: float = 0.5, finish_reason: FinishReason = FinishReason.DELIMITER) -> Trajectory:
    """Return a trajectory of two-token steps, whose last has the given reward and end."""
    steps = [
        Step(i, (1, 2), text, Source.DRAFT, Outcome.ACCEPTED, finish_reason, reward=0.0, best_reward=best_reward)
        for i, text in enumerate(texts)
    ]
    return START.extend(*steps)


def has_answer(text: str) -> bool:
    return re.search(r"answer: \d+", text) is not None


def why(trajectory: Trajectory, rules: StopRules, max_length: int = MAX_LENGTH) -> StopReason | None:
    return stop_reason(trajectory, rules, has_answer, max_length)


def test_a_trajectory_without_steps_goes_on() -> None:
    """Neither an answer in the prompt nor a reward floor ends what has not begun."""
    assert stop_reason(START, EVERY_LIMIT, lambda text: True, MAX_LENGTH) is None


@pytest.mark.parametrize("finish_reason", [FinishReason.DELIMITER, FinishReason.LENGTH])
def test_a_step_that_met_no_limit_goes_on(finish_reason: FinishReason) -> None:
    """A step cut at its own token limit is a step like any other."""
    assert why(answered("so", finish_reason=finish_reason), EVERY_LIMIT) is None


def test_each_reason_is_met_alone() -> None:
    """One trajectory for each of the five."""
    assert why(answered("so", finish_reason=FinishReason.EOS), NO_LIMITS) is StopReason.EOS
    assert why(answered("answer: 5"), NO_LIMITS) is StopReason.ANSWER
    assert why(answered("so", best_reward=0.05), StopRules(reward_floor=0.1)) is StopReason.LOW_REWARD
    assert why(answered("so", "then"), StopRules(max_steps=2)) is StopReason.MAX_STEPS
    assert why(answered("so", "then"), StopRules(max_tokens=4)) is StopReason.MAX_TOKENS


def test_the_reasons_are_tried_in_the_order_they_are_declared_in() -> None:
    """All five hold at first; as each is taken away the next is told."""
    rules = EVERY_LIMIT
    assert why(answered("so", "answer: 5", best_reward=0.0, finish_reason=FinishReason.EOS), rules) is StopReason.EOS
    assert why(answered("so", "answer: 5", best_reward=0.0), rules) is StopReason.ANSWER
    assert why(answered("so", "then", best_reward=0.0), rules) is StopReason.LOW_REWARD
    assert why(answered("so", "then"), rules) is StopReason.MAX_STEPS
    assert why(answered("so", "then"), StopRules(max_tokens=4)) is StopReason.MAX_TOKENS
    assert list(StopReason) == ["eos", "answer", "low_reward", "max_steps", "max_tokens"]


def test_an_answer_may_be_spread_over_steps() -> None:
    """The whole answer's text is read, not the last step's."""
    assert why(answered("the answer", ": 5"), NO_LIMITS) is StopReason.ANSWER


@pytest.mark.parametrize(("best_reward", "reason"), [(0.1, None), (0.0999, StopReason.LOW_REWARD)])
def test_the_reward_floor_is_reached_by_a_tie(best_reward: float, reason: StopReason | None) -> None:
    """It ends a job only where not even the best candidate reached it."""
    assert why(answered("so", best_reward=best_reward), StopRules(reward_floor=0.1)) is reason


@pytest.mark.parametrize("best_reward", [math.nan, -math.inf])
def test_a_step_without_any_reward_is_below_every_floor(best_reward: float) -> None:
    """NaN too, which compares with nothing; without a floor it goes on."""
    trajectory = answered("so", best_reward=best_reward)
    assert why(trajectory, StopRules(reward_floor=-1e6)) is StopReason.LOW_REWARD
    assert why(trajectory, NO_LIMITS) is None


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 5))
def test_tokens_left_is_the_nearer_of_the_two_limits(max_tokens: int, max_length: int, num_steps: int) -> None:
    """The job's limit counts the answer's tokens, the context's the prompt's too."""
    trajectory = answered(*["so"] * num_steps)
    left = tokens_left(trajectory, StopRules(max_tokens=max_tokens), max_length)
    assert left == min(max_tokens, max_length - 1) - 2 * num_steps
    assert (why(trajectory, StopRules(max_tokens=max_tokens), max_length) is StopReason.MAX_TOKENS) == (left < 1)


def test_a_prompt_that_fills_the_context_ends_at_once() -> None:
    """There is no room for a step, so none is asked for."""
    assert why(START, NO_LIMITS, max_length=len(START.prompt.token_ids)) is StopReason.MAX_TOKENS


def test_the_prms_context_counts_a_mark_behind_each_step_and_behind_the_next() -> None:
    """A prompt of one token, two steps of two tokens with their marks, and the mark of the step to come."""
    rules = StopRules(prm_max_length=12)
    used = 1 + 2 * (2 + 1)
    assert tokens_left(answered("so", "then"), rules, MAX_LENGTH) == 12 - used - 1
    assert why(answered("so", "then"), StopRules(prm_max_length=used + 1)) is StopReason.MAX_TOKENS
