"""The acceptance test r~ >= u."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.methods.gsi import is_accepted

FINITE = st.floats(-1e6, 1e6)


@given(FINITE)
def test_a_tie_is_accepted(threshold: float) -> None:
    """Line 6 of Algorithm 1 says >=."""
    assert is_accepted(threshold, threshold)
    assert not is_accepted(math.nextafter(threshold, -math.inf), threshold)


@given(FINITE)
def test_minus_infinity_is_rejected_by_every_threshold(threshold: float) -> None:
    """A step that the target would never write is never accepted."""
    assert not is_accepted(-math.inf, threshold)


@given(FINITE, FINITE, FINITE)
def test_a_lower_threshold_accepts_all_that_a_higher_one_does(tilted: float, one: float, other: float) -> None:
    """Lowering u never rejects more."""
    assert is_accepted(tilted, min(one, other)) or not is_accepted(tilted, max(one, other))
