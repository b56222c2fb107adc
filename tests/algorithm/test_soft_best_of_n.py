"""Properties of soft best-of-n: the law ``probabilities`` and the draw ``select``."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.soft_best_of_n import probabilities, select

REWARD = st.floats(-10, 10)
SCORES = st.lists(REWARD | st.just(-math.inf), min_size=1, max_size=20)
BETA = st.floats(1e-3, 1e6)
UNIFORM = st.floats(0, 1, exclude_max=True)


@given(SCORES, BETA)
def test_probabilities_lie_between_0_and_1_and_sum_to_1(scores: list[float], beta: float) -> None:
    """Whatever the scores and however large beta, the result is a law."""
    law = probabilities(scores, beta)
    assert all(0 <= p <= 1 for p in law)
    assert math.isclose(math.fsum(law), 1)


@given(st.lists(REWARD, min_size=2, max_size=20), st.floats(1e-3, 50))
def test_the_odds_of_two_candidates_are_the_exponential_of_beta_times_their_difference(
    scores: list[float], beta: float
) -> None:
    """P(i) / P(j) = exp(beta (s_i - s_j)), in logarithms where both are representable."""
    law = probabilities(scores, beta)
    if law[0] > 1e-300 and law[1] > 1e-300:
        assert math.log(law[0] / law[1]) == pytest.approx(beta * (scores[0] - scores[1]), abs=1e-9)


@given(st.lists(REWARD, min_size=1, max_size=20), st.floats(1e-3, 50), REWARD)
def test_adding_a_constant_to_every_score_changes_nothing(scores: list[float], beta: float, shift: float) -> None:
    """Only differences count."""
    shifted = probabilities([score + shift for score in scores], beta)
    assert shifted == pytest.approx(probabilities(scores, beta), abs=1e-9)


@given(st.lists(REWARD, min_size=1, max_size=10), st.permutations(range(10)), BETA)
def test_the_law_does_not_depend_on_the_order_of_candidates(scores: list[float], order: list[int], beta: float) -> None:
    """Shuffled scores get the same probabilities, shuffled."""
    shuffle = [i for i in order if i < len(scores)]
    law = probabilities(scores, beta)
    assert probabilities([scores[i] for i in shuffle], beta) == [law[i] for i in shuffle]


@given(SCORES, BETA)
def test_a_score_of_minus_infinity_has_probability_0_beside_a_finite_one(scores: list[float], beta: float) -> None:
    """What the target would never write is never kept while there is anything else."""
    law = probabilities([*scores, 0.0], beta)
    assert all(p == 0 for score, p in zip(scores, law, strict=False) if score == -math.inf)


@given(st.integers(1, 64), BETA)
def test_equal_scores_have_equal_probabilities_even_at_minus_infinity(n: int, beta: float) -> None:
    """Ties share; where all are -inf none is better than another."""
    assert probabilities([0.3] * n, beta) == probabilities([-math.inf] * n, beta) == [1 / n] * n


@pytest.mark.parametrize(("beta", "scores"), [(1e6, [1.0, 0.0, 1.0]), (1e300, [1e6, -1e6, 1e6]), (20.0, [1e4, 0, 1e4])])
def test_a_huge_beta_picks_the_best_without_overflow(beta: float, scores: list[float]) -> None:
    """Soft best-of-n becomes hard best-of-n; the best share."""
    assert probabilities(scores, beta) == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("scores", [[], [math.nan], [0.5, math.nan], [math.inf, 0.5]])
def test_no_scores_and_scores_that_cannot_be_weighed_are_errors(scores: list[float]) -> None:
    """NaN must have been given a rank before, and nothing outweighs everything."""
    with pytest.raises(ValueError, match="score"):
        probabilities(scores, 20.0)


@given(SCORES, BETA, UNIFORM)
def test_select_never_returns_a_candidate_of_probability_0(scores: list[float], beta: float, uniform: float) -> None:
    """Whatever the uniform."""
    assert probabilities(scores, beta)[select(scores, beta, uniform)] > 0


@pytest.mark.parametrize("n", [6, 7, 10, 64])
def test_the_largest_uniform_selects_the_last_candidate_that_can_be(n: int) -> None:
    """Six times 1/6 adds up to less than 1 in floats, and the uniform may lie between."""
    assert select([0.5] * n + [-math.inf], 20.0, math.nextafter(1, 0)) == n - 1


@given(SCORES, BETA, UNIFORM, UNIFORM)
def test_a_larger_uniform_never_selects_an_earlier_candidate(
    scores: list[float], beta: float, one: float, other: float
) -> None:
    """Selection is the inverse of the cumulated law, in index order."""
    assert select(scores, beta, min(one, other)) <= select(scores, beta, max(one, other))


@given(SCORES, BETA)
def test_select_gives_each_candidate_its_share_of_the_uniforms(scores: list[float], beta: float) -> None:
    """Over an even grid of uniforms each index is drawn in proportion to its probability."""
    grid = 500
    drawn = [select(scores, beta, (k + 0.5) / grid) for k in range(grid)]
    for i, p in enumerate(probabilities(scores, beta)):
        assert drawn.count(i) / grid == pytest.approx(p, abs=1.001 / grid)


@given(REWARD | st.just(-math.inf), BETA, UNIFORM)
def test_one_candidate_is_always_selected(score: float, beta: float, uniform: float) -> None:
    """With n = 1 there is no choice."""
    assert select([score], beta, uniform) == 0


@pytest.mark.parametrize("uniform", [-0.1, 1.0, math.nan])
def test_a_uniform_outside_0_to_1_is_an_error(uniform: float) -> None:
    """1 itself is excluded, as the seeds never give it."""
    with pytest.raises(ValueError, match="uniform"):
        select([0.5], 20.0, uniform)
