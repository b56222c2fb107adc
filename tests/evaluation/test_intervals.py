"""How often an interval covers the truth: calculated where each problem is run once, simulated with several seeds."""

import numpy as np
import pytest
from scipy import stats

from gsi.evaluation.estimates import Estimate, estimate_difference, estimate_ratio, estimate_share

PROMISED = 0.95
NUM_PROBLEMS = (8, 25, 60, 200)


def covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low - 1e-12 <= truth <= estimate.high + 1e-12


@pytest.mark.parametrize("num_problems", NUM_PROBLEMS)
@pytest.mark.parametrize("truth", [0.5, 0.9, 0.98, 1.0])
def test_an_accuracy_is_covered_in_95_percent(truth: float, num_problems: int) -> None:
    """The law of the number of right answers is known, so the coverage is exact."""
    coverage = 0.0
    for right in range(num_problems + 1):
        estimate = estimate_share([1.0] * right + [0.0] * (num_problems - right), num_problems)
        assert estimate.low <= estimate.value <= estimate.high
        if covers(estimate, truth):
            coverage += stats.binom.pmf(right, num_problems, truth)
    assert coverage >= PROMISED


@pytest.mark.parametrize("num_problems", [8, 60])
def test_an_interval_of_single_answers_is_clopper_and_pearsons(num_problems: int) -> None:
    """As scipy has it for whole numbers; so 8 right of 8 are no certainty."""
    for right in range(num_problems + 1):
        exact = stats.binomtest(right, num_problems).proportion_ci(method="exact")
        estimate = estimate_share([1.0] * right + [0.0] * (num_problems - right), num_problems)
        assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high))
    assert estimate_share([1.0] * 8, 8).low == pytest.approx(0.6306, abs=1e-4)


@pytest.mark.parametrize("num_problems", [25, 200])
@pytest.mark.parametrize(
    ("truth", "likeness"), [(0.5, 0.1), (0.5, 0.6), (0.9, 0.1), (0.9, 0.6), (0.98, 0.1), (0.98, 0.6)]
)
def test_an_accuracy_over_seeds_is_covered(truth: float, likeness: float, num_problems: int) -> None:
    """Four seeds of problems of different difficulty (a beta law); ``likeness`` is the correlation of two seeds."""
    random, repetitions, seeds = np.random.default_rng(0), 1000, 4
    scale = (1 - likeness) / likeness
    difficulty = random.beta(truth * scale, (1 - truth) * scale, (repetitions, num_problems))
    shares = random.binomial(seeds, difficulty) / seeds
    covered = [covers(estimate_share(row.tolist(), seeds * num_problems), truth) for row in shares]
    assert np.mean(covered) >= PROMISED - 2 * (PROMISED * (1 - PROMISED) / repetitions) ** 0.5


def test_alike_seeds_tell_no_more_than_one_and_independent_seeds_do() -> None:
    """The interval is as wide as the seeds deserve."""
    alike = estimate_share([1.0] * 20 + [0.0] * 20, 4 * 40)
    independent = estimate_share([0.25, 0.5, 0.5, 0.75] * 10, 4 * 40)
    once = estimate_share([1.0] * 20 + [0.0] * 20, 40)
    assert alike.high - alike.low == pytest.approx(once.high - once.low, rel=0.1)
    assert independent.high - independent.low < 0.6 * (once.high - once.low)


@pytest.mark.parametrize("num_problems", [8, 25, 60])
@pytest.mark.parametrize("won", [0.0, 0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("lost", [0.0, 0.01, 0.05, 0.2, 0.45])
def test_a_paired_difference_is_covered_in_95_percent(won: float, lost: float, num_problems: int) -> None:
    """Each problem is won, lost or equal; every number of wins and losses, with its probability."""
    coverage = 0.0
    for wins in range(num_problems + 1):
        losses = np.arange(num_problems - wins + 1)
        counts = np.column_stack([np.full_like(losses, wins), losses, num_problems - wins - losses])
        probabilities = stats.multinomial.pmf(counts, num_problems, [won, lost, 1 - won - lost])
        for lost_here, probability in zip(losses.tolist(), probabilities.tolist(), strict=True):
            if probability > 1e-6:
                rest = num_problems - wins - lost_here
                estimate = estimate_difference([1.0] * wins + [-1.0] * lost_here + [0.0] * rest)
                coverage += probability * covers(estimate, won - lost)
    assert coverage >= PROMISED


def test_no_difference_seen_is_no_certainty() -> None:
    """Of 60 problems on which both did the same, a difference of 5 points may be hidden."""
    estimate = estimate_difference([0.0] * 60)
    assert estimate.low == pytest.approx(-estimate.high)
    assert 0.04 < estimate.high < 0.06
    assert estimate_difference([1.0]) == Estimate(1.0, -1.0, 1.0)


def test_a_method_that_accepted_every_step_may_reject() -> None:
    """All 300 steps of 8 problems were accepted: that is as sure as 8 answers are."""
    assert estimate_ratio([37] * 8, [37] * 8) == estimate_share([1.0] * 8, 8)
