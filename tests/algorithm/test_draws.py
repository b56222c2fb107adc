"""The chi-square test by which sampled laws are held against exact ones: it passes the right law and fails others."""

import random

import pytest

from tests.algorithm.draws import LEAST_P, p_value

LAW = {"a": 0.6, "b": 0.3, "c": 0.0995, "d": 0.0005}


def draw(law: dict[str, float], num_draws: int = 2000) -> list[str]:
    return random.Random(1).choices(list(law), list(law.values()), k=num_draws)


def test_draws_of_the_law_pass() -> None:
    """Also where an outcome is so rare that it is counted together with another."""
    assert p_value(LAW, draw(LAW)) > 0.01


@pytest.mark.parametrize("other", [{"a": 0.55, "b": 0.35, "c": 0.1}, {"a": 0.6, "b": 0.3, "c": 0.09, "d": 0.01}])
def test_draws_of_another_law_fail(other: dict[str, float]) -> None:
    """2,000 draws tell laws apart that differ by five points, or in a rare outcome."""
    assert p_value({"a": 0.6, "b": 0.3, "c": 0.1, "d": 0.0}, draw(other)) < LEAST_P


def test_a_draw_that_the_law_does_not_have_fails_alone() -> None:
    """Whether the law gives the outcome no probability, or does not name it."""
    assert p_value({"a": 1.0, "b": 0.0}, [*["a"] * 1000, "b"]) == 0
    assert p_value({"a": 1.0}, [*["a"] * 1000, "z"]) == 0


def test_too_few_draws_are_no_test() -> None:
    """The chi-square law holds for counts that are not small."""
    with pytest.raises(AssertionError, match="too few draws"):
        p_value({"a": 0.5, "b": 0.5}, ["a", "b", "a"])
