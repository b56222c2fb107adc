"""What the mathematics needs of a job's parameters."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.params import Params


@given(st.integers(1, 256), st.none() | st.integers(1, 256))
def test_the_target_draws_as_many_candidates_as_the_draft_unless_told(n: int, n_target: int | None) -> None:
    """Algorithm 1 has one n; a job may choose another for resampling."""
    assert Params(n=n, n_target=n_target).num_target_candidates == (n if n_target is None else n_target)


@pytest.mark.parametrize(("n", "n_target"), [(0, None), (-1, 4), (4, 0)])
def test_at_least_one_candidate_is_needed(n: int, n_target: int | None) -> None:
    """There is no best of none."""
    with pytest.raises(ValueError, match="at least 1"):
        Params(n=n, n_target=n_target)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_beta_is_finite_and_above_0(beta: float) -> None:
    """The log ratio is divided by it."""
    with pytest.raises(ValueError, match="beta"):
        Params(beta=beta)


@pytest.mark.parametrize("threshold", [math.inf, -math.inf, math.nan])
def test_the_threshold_is_finite(threshold: float) -> None:
    """-inf would accept a step that the target would never write."""
    with pytest.raises(ValueError, match="acceptance_threshold"):
        Params(acceptance_threshold=threshold)
