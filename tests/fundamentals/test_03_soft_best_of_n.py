"""Soft best-of-n draws one of n candidates: the better its score, the likelier, and beta says how much."""

import math

import pytest

from gsi.algorithm.soft_best_of_n import probabilities, select


def test_a_better_candidate_is_likelier_by_the_exponential_of_beta_times_the_difference() -> None:
    """P(i) is exp(beta * score_i), divided by the sum over all."""
    worse, better = probabilities([0.5, 0.6], beta=20)
    assert better / worse == pytest.approx(math.exp(20 * 0.1))


def test_a_small_beta_chooses_evenly_and_a_large_one_the_best() -> None:
    """In between, reward is traded for staying close to the model."""
    assert probabilities([0.1, 0.9], beta=1e-9) == pytest.approx([0.5, 0.5])
    assert probabilities([0.1, 0.9], beta=1e6) == [0.0, 1.0]


def test_the_same_random_number_selects_the_same_candidate() -> None:
    """The numbers from 0 to 1 are shared out in the candidates' order."""
    scores = [0.5, 0.5, 0.5, 0.5]
    assert [select(scores, 20, uniform) for uniform in (0.0, 0.3, 0.6, 0.9)] == [0, 1, 2, 3]


def test_a_candidate_scored_minus_infinity_is_not_selected() -> None:
    """Its weight is exp(-inf) = 0."""
    assert probabilities([-math.inf, 0.1], beta=20) == [0.0, 1.0]


def test_the_best_of_one_is_that_one() -> None:
    """With n = 1 the reward has no say: it is plain sampling."""
    assert select([0.01], 20, 0.99) == 0
