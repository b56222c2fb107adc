"""RSD, Proposition 2.3, as a rule: the weighting ``budget`` against exact laws, and against every other rule.

The n candidates of a step, and the law by which soft best-of-n draws one of them, are all that is known of a prefix.
That law is exact: so are the threshold and the share that it rejects.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Source
from gsi.algorithm.params import Params
from gsi.algorithm.weighting import Binary, Budget, Weighting, in_context
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, first_rounds, p_value, written_steps
from tests.algorithm.test_paper import NUM_DRAWS, WORLD


@st.composite
def contexts(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Draw the rewards of one to six candidates, and the law of the draw in parts of a power of 2: sums are exact."""
    shares = draw(st.lists(st.integers(0, 63), max_size=5))
    ends = [0, *sorted(shares), 64]
    rewards = draw(st.lists(st.integers(0, 8), min_size=len(ends) - 1, max_size=len(ends) - 1))
    return [r / 8 for r in rewards], [(end - start) / 64 for start, end in pairwise(ends)]


def weights_in_context(rule: Weighting, rewards: Sequence[float], law: Sequence[float]) -> list[float]:
    return [in_context(rule, rewards, law).weight(r, math.nan) for r in rewards]


gammas = st.integers(0, 64).map(lambda k: k / 64)


@pytest.mark.parametrize(("n", "n_target"), [(2, None), (3, 1)])
async def test_the_threshold_per_context_follows_its_exact_law(n: int, n_target: int | None) -> None:
    """RSD, equation (3): delta_gamma depends on z, so the law is a mixture over the candidates of a step."""
    params = Params(method="rsd", n=n, n_target=n_target, beta=3.0, weighting=Budget(0.3))
    law = exact.rsd_within_budget(WORLD, 0.3, beta=params.beta, n=n, n_target=n_target)
    assert sum(p for (source, _), p in law.items() if source is Source.TARGET) == pytest.approx(0.3)
    made = await first_rounds(WORLD, params, NUM_DRAWS)
    assert p_value(law, written_steps(made)) > LEAST_P


@given(contexts(), gammas)
def test_the_threshold_per_context_spends_the_budget(context: tuple[list[float], list[float]], gamma: float) -> None:
    """RSD, Proposition 2.3: nu = 1 - E[w] <= gamma, here with equality, after every prefix."""
    rewards, law = context
    weights = weights_in_context(Budget(gamma), rewards, law)
    assert 1 - exact.expectation(law, weights) == pytest.approx(gamma, abs=1e-12)


@given(contexts(), gammas)
def test_the_threshold_per_context_is_the_largest_that_the_budget_allows(
    context: tuple[list[float], list[float]], gamma: float
) -> None:
    """RSD, equation (3): 1 above delta_gamma(z), 0 below; at it stands what is left of the budget."""
    rewards, law = context
    assume(gamma < 1)  # otherwise no step of the draft is kept
    possible = [r for r, p in zip(rewards, law, strict=True) if p > 0]
    printed = max(
        delta for delta in possible if sum(p for r, p in zip(rewards, law, strict=True) if r < delta) <= gamma
    )
    for reward, weight in zip(rewards, weights_in_context(Budget(gamma), rewards, law), strict=True):
        assert weight == float(reward > printed) or (reward == printed and 0 < weight <= 1)


@given(contexts(), gammas, st.lists(st.floats(0, 1), min_size=6, max_size=6), st.floats(0, 1))
def test_no_weighting_of_the_same_budget_has_a_higher_reward(
    context: tuple[list[float], list[float]], gamma: float, others: list[float], resampled: float
) -> None:
    """RSD, Proposition 2.3, where it holds: at equal nu, whatever the target's mean reward (``resampled``) is."""
    rewards, law = context
    budget = weights_in_context(Budget(gamma), rewards, law)
    nu_now = 1 - exact.expectation(law, others[: len(law)])
    other = [
        1 - (1 - w) * gamma / nu_now if nu_now > gamma else w * (1 - gamma) / (1 - nu_now) if nu_now < 1 else w
        for w in others[: len(law)]
    ]
    assume(1 - exact.expectation(law, other) == pytest.approx(gamma, abs=1e-9))
    gain = [r - resampled for r in rewards]

    def reward_of(weights: Sequence[float]) -> float:
        return resampled + exact.expectation(law, [w * g for w, g in zip(weights, gain, strict=True)])

    assert reward_of(budget) >= reward_of(other) - 1e-9


def test_what_is_accepted_depends_on_the_context() -> None:
    """RSD, equation (3): delta_gamma(z). A reward of 0.5 is too low beside 0.9, and good enough beside 0.1."""
    beside_better = in_context(Budget(0.5), [0.5, 0.9], [0.5, 0.5])
    beside_worse = in_context(Budget(0.5), [0.5, 0.1], [0.5, 0.5])
    assert (beside_better.weight(0.5, math.nan), beside_worse.weight(0.5, math.nan)) == (0.0, 1.0)
    assert in_context(Binary(), [0.5, 0.9], [0.5, 0.5]) == Binary()
