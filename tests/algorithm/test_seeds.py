"""All randomness is a hash of what it is for."""

from collections import Counter
from itertools import permutations, product

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from gsi.algorithm.seeds import derive_seed, uniform

JOB_SEED = st.integers(0, 2**63 - 1)
PARTS = st.lists(st.integers(-(2**63), 2**63) | st.text(max_size=10), max_size=5)


@given(PARTS)
def test_seeds_and_uniforms_stay_in_their_ranges(parts: list[int | str]) -> None:
    """A seed is a signed 64-bit integer, not negative; a uniform is below 1."""
    assert 0 <= derive_seed(*parts) < 2**63
    assert 0 <= uniform(*parts) < 1


@given(JOB_SEED, st.permutations(range(6)))
def test_a_seed_does_not_depend_on_what_was_drawn_before(seed: int, order: list[int]) -> None:
    """Steps asked for in any order draw the same numbers."""
    drawn = {step: uniform(seed, step, "draft", "select") for step in order}
    assert drawn == {step: uniform(seed, step, "draft", "select") for step in range(6)}


@given(JOB_SEED)
def test_every_step_phase_and_candidate_has_a_seed_of_its_own(seed: int) -> None:
    """No two streams of a job meet, nor those of the job with the next seed."""
    names = list(product((seed, seed + 1), range(10), ("draft", "target"), range(16)))
    assert len({derive_seed(*name) for name in names}) == len(names)


def test_the_order_of_the_parts_matters() -> None:
    """Candidate 1 of step 2 is not candidate 2 of step 1."""
    assert len({derive_seed(*parts) for parts in permutations((1, 2, 12))}) == 6
    assert derive_seed(1, 12) != derive_seed(11, 2)


def test_seeds_are_the_same_in_every_process_and_version() -> None:
    """A job that was checkpointed by an older coordinator must go on as it began."""
    assert derive_seed(7, 0, "draft") == 442_291_822_122_667_251
    assert uniform(7, 0, "draft", "select") == 0.7055463071599714


def test_uniforms_are_spread_evenly() -> None:
    """20,000 candidates of neighbouring seeds fall evenly into 50 bins."""
    bins = Counter(int(50 * uniform(seed, i)) for seed in range(1000) for i in range(20))
    assert chisquare([bins[k] for k in range(50)]).pvalue > 1e-4
