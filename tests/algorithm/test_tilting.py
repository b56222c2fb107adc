"""The log ratio, the tilted reward, and where a reward that is not a number stands."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.soft_best_of_n import probabilities
from gsi.algorithm.tilting import log_ratio, rankable, tilted_reward

LOG_LIKELIHOOD = st.floats(-1e4, 0)
REWARD = st.floats(0, 1)


@given(LOG_LIKELIHOOD, LOG_LIKELIHOOD)
def test_the_log_ratio_is_positive_where_the_target_likes_the_step_better(target: float, draft: float) -> None:
    """log(pi_B / pi_S) has the sign of log pi_B - log pi_S."""
    assert (log_ratio(target, draft) > 0) == (target > draft)


def test_the_log_ratio_is_minus_infinity_where_the_target_would_never_write_the_step() -> None:
    """log 0 is -inf, and no error: the draft may well write what the target cannot."""
    assert log_ratio(-math.inf, -1.0) == -math.inf


@pytest.mark.parametrize("draft", [-math.inf, math.inf, math.nan])
def test_a_draft_likelihood_that_is_not_finite_is_an_error(draft: float) -> None:
    """The draft sampled the step, so it has a likelihood."""
    with pytest.raises(ValueError, match=r"draft.*finite"):
        log_ratio(-1.0, draft)


@pytest.mark.parametrize("target", [0.1, math.inf, math.nan])
def test_a_target_likelihood_above_1_or_nan_is_an_error(target: float) -> None:
    """A probability is at most 1, its logarithm at most 0."""
    with pytest.raises(ValueError, match=r"target.*at most 0"):
        log_ratio(target, -1.0)


def test_a_target_likelihood_may_pass_1_by_rounding() -> None:
    """A sum of rounded log-softmax values can be 1e-7 above 0."""
    assert log_ratio(1e-7, -1.0) == pytest.approx(1.0)


@given(REWARD, LOG_LIKELIHOOD, st.floats(1e-2, 1e6))
def test_the_tilted_reward_is_the_reward_where_both_models_agree(reward: float, likelihood: float, beta: float) -> None:
    """A log ratio of 0 tilts nothing, at any beta."""
    assert tilted_reward(reward, log_ratio(likelihood, likelihood), beta) == reward


@given(REWARD, st.floats(-50, 50), st.floats(1e-2, 1e3))
def test_beta_times_the_tilt_is_the_log_ratio(reward: float, ratio: float, beta: float) -> None:
    """beta (r~ - r) = log(pi_B / pi_S): the ratio counts in full in the selection, and 1/beta of it on u's scale."""
    assert beta * (tilted_reward(reward, ratio, beta) - reward) == pytest.approx(ratio, abs=1e-9)


@given(REWARD | st.just(-math.inf))
def test_a_reward_that_is_nan_ranks_below_every_other(reward: float) -> None:
    """No reward is worse than none, and -inf is just as bad."""
    assert rankable(math.nan) <= rankable(reward) == reward


@given(REWARD, st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_reward_that_is_nan_is_never_selected_beside_a_number(reward: float, one: float, other: float) -> None:
    """However likely the target finds the step."""
    scores = [tilted_reward(math.nan, one, 20.0), tilted_reward(reward, other, 20.0)]
    assert probabilities(scores, 20.0) == [0.0, 1.0]
