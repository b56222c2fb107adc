"""RSD's acceptance rules: Table 1 and section 2.4 of the RSD paper by hand-computed values, and every corner."""

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.weighting import (
    WEIGHTINGS,
    Binary,
    Budget,
    Clip,
    Constant,
    Hybrid,
    LikelihoodRatio,
    Logistic,
    NormalisedHybrid,
    Sigmoidal,
    Weighting,
    accepts,
    in_context,
    logistic,
)

DEFAULTS: list[Weighting] = [kind() for kind in WEIGHTINGS.values()]
OF_THE_REWARD = [rule for rule in DEFAULTS if not rule.needs_log_ratio]

rewards = st.floats(allow_nan=False, allow_infinity=False)
log_ratios = st.floats(max_value=1e6, allow_nan=False)  # -inf: the target would never write it


@pytest.mark.parametrize(
    ("rule", "reward", "weight"),
    [
        (Constant(0.3), 0.0, 0.3),
        (Constant(0.3), 1.0, 0.3),
        (Constant(0.0), 1.0, 0.0),
        (Constant(1.0), 0.0, 1.0),
        (Binary(0.7), 0.7, 1.0),
        (Binary(0.7), 0.6999999, 0.0),
        (Clip(), 0.25, 0.25),
        (Clip(), -2.0, 0.0),
        (Clip(), 3.0, 1.0),
        (Sigmoidal(), 1.0, 0.5),
        (Sigmoidal(), 3.0, 0.75),
        (Sigmoidal(), 0.0, 0.0),
        (Sigmoidal(), -0.5, 0.0),
        (Logistic(10.0, 0.7), 0.7, 0.5),
        (Logistic(math.log(3), 0.0), 1.0, 0.75),
        (Logistic(math.log(3), 0.0), -1.0, 0.25),
    ],
)
def test_the_formulas_of_table_1(rule: Weighting, reward: float, weight: float) -> None:
    """RSD, Table 1: p, 1(r >= delta), min(1, max(0, r)), max(0, r / (1 + r)), 1 / (1 + e^{-alpha (r - delta)})."""
    assert rule.weight(reward, math.nan) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("rule", "reward", "ratio", "weight"),
    [
        (LikelihoodRatio(), 0.1, 0.25, 0.25),
        (LikelihoodRatio(), 0.9, 0.25, 0.25),
        (LikelihoodRatio(2.0), 0.1, 0.25, 0.5),
        (LikelihoodRatio(8.0), 0.1, 0.25, 1.0),
        (LikelihoodRatio(), 0.1, 4.0, 1.0),
        (Hybrid(), 0.5, 0.5, 0.25),
        (Hybrid(3.0), 0.5, 0.5, 0.75),
        (Hybrid(3.0), 0.5, 2.0, 1.0),
        (Hybrid(), 0.0, 2.0, 0.0),
        (Hybrid(), -1.0, 2.0, 0.0),
        (NormalisedHybrid(), 0.7, 1.0, 0.5),
        (NormalisedHybrid(), 0.7, 3.0, 0.75),  # at r = delta the sigmoidal transformation of the ratio
        (NormalisedHybrid(math.log(3), 0.0), 1.0, 1.0, 0.75),  # at equal likelihoods the logistic function of r
        (NormalisedHybrid(math.log(3), 0.0), -1.0, 9.0, 0.75),
    ],
)
def test_the_formulas_of_section_2_4(rule: Weighting, reward: float, ratio: float, weight: float) -> None:
    """RSD, section 2.4: min(1, alpha pi_B / pi_S), min(1, beta r pi_B / pi_S), and both quantities normalised."""
    assert rule.weight(reward, math.log(ratio)) == pytest.approx(weight)


def test_sigmoidal_is_0_below_0_where_the_printed_formula_leaves_the_unit_interval() -> None:
    """r = -2 gives -2 / -1 = 2, which is no probability; r = -1 divides by 0."""
    assert [Sigmoidal().weight(reward, math.nan) for reward in (-2.0, -1.0)] == [0.0, 0.0]


@pytest.mark.parametrize("rule", DEFAULTS)
@given(reward=st.one_of(rewards, st.just(-math.inf)), log_ratio=log_ratios)
def test_every_weight_is_a_probability(rule: Weighting, reward: float, log_ratio: float) -> None:
    """Whatever the reward model and the likelihoods say."""
    assert 0 <= rule.weight(reward, log_ratio) <= 1


@pytest.mark.parametrize("rule", [*OF_THE_REWARD, Hybrid(), NormalisedHybrid()])
@given(lower=rewards, higher=rewards, log_ratio=log_ratios)
def test_a_higher_reward_never_weighs_less(rule: Weighting, lower: float, higher: float, log_ratio: float) -> None:
    """RSD, section 2.4: "as long as it meets the non-decreasing requirement in r"."""
    lower, higher = sorted((lower, higher))
    assert rule.weight(lower, log_ratio) <= rule.weight(higher, log_ratio)


@pytest.mark.parametrize("rule", [LikelihoodRatio(0.5), Hybrid(0.5), NormalisedHybrid()])
@given(lower=log_ratios, higher=log_ratios)
def test_a_likelier_step_never_weighs_less(rule: Weighting, lower: float, higher: float) -> None:
    """Where the target's likelihood counts, more of it helps."""
    lower, higher = sorted((lower, higher))
    assert rule.weight(0.8, lower) <= rule.weight(0.8, higher)


@pytest.mark.parametrize("rule", [rule for rule in DEFAULTS if not isinstance(rule, Constant | LikelihoodRatio)])
def test_a_candidate_without_a_reward_is_not_kept(rule: Weighting) -> None:
    """A reward of NaN ranks as -inf; only rules that do not look at rewards can keep such a candidate."""
    assert rule.weight(-math.inf, 0.0) == 0.0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_no_budget_keeps_a_candidate_without_a_reward(gamma: float) -> None:
    """It is drawn only where no candidate of the step has a reward."""
    rule = in_context(Budget(gamma), [-math.inf, -math.inf], [0.5, 0.5])
    assert rule.weight(-math.inf, math.nan) == 0.0


def test_equal_rewards_are_treated_alike_by_a_budget() -> None:
    """Whatever the order of the candidates: two of three share the lowest reward, and two thirds of the draws."""
    rule = in_context(Budget(0.5), [0.3, 0.9, 0.3], [0.25, 0.25, 0.5])
    assert [rule.weight(r, math.nan) for r in (0.2, 0.3, 0.9)] == pytest.approx([0.0, 1 / 3, 1.0])


@pytest.mark.parametrize("rule", [rule for rule in DEFAULTS if rule.needs_log_ratio])
def test_what_the_target_never_writes_is_not_kept_by_its_likelihood(rule: Weighting) -> None:
    """log(pi_B / pi_S) = -inf."""
    assert rule.weight(1.0, -math.inf) == 0.0


def test_ratios_beyond_what_a_double_holds_do_not_overflow() -> None:
    """exp(5000) has no double; a sum over a long step reaches such numbers."""
    assert LikelihoodRatio(1e300).weight(0.5, 5000.0) == Hybrid(1e300).weight(1e300, 5000.0) == 1.0
    assert LikelihoodRatio(1e-300).weight(0.5, -5000.0) == Hybrid(1e-300).weight(5e-324, -5000.0) == 0.0
    assert NormalisedHybrid(1e300).weight(1e300, -5000.0) == 1.0
    assert NormalisedHybrid(1e300).weight(1e300, -math.inf) == 0.0


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.5), (1e308, 1.0), (-1e308, 0.0), (math.inf, 1.0)])
def test_the_logistic_function_does_not_overflow(value: float, expected: float) -> None:
    """Both branches, at the ends of what a double holds."""
    assert logistic(value) == expected


@given(st.floats(-700, 700))
def test_the_logistic_function_is_symmetric(value: float) -> None:
    """1 / (1 + e^-x) + 1 / (1 + e^x) = 1: the two branches are one function."""
    assert logistic(value) + logistic(-value) == pytest.approx(1.0)


def test_weights_0_and_1_decide_by_themselves() -> None:
    """RSD, Algorithm 2: "if omega(r) = 0 or 1 then A = omega(r)", whatever number is drawn from [0, 1)."""
    for number in (0.0, 5e-324, 0.5, math.nextafter(1.0, 0.0)):
        assert not accepts(0.0, number)
        assert accepts(1.0, number)


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_between_them_the_number_is_compared_with_the_weight(weight: float, number: float) -> None:
    """RSD, Algorithm 2: "A = 1(omega(r) >= u)"; a tie has probability 0 and goes the other way here."""
    assert accepts(weight, number) == (weight >= number and weight != number)


@pytest.mark.parametrize(
    ("kind", "numbers", "allowed"),
    [
        (Constant, {"p": -0.1}, "p is -0.1; allowed: a number from 0 to 1"),
        (Constant, {"p": 1.5}, "p is 1.5; allowed: a number from 0 to 1"),
        (Constant, {"p": math.nan}, "p is nan; allowed: a number from 0 to 1"),
        (Binary, {"delta": math.inf}, "delta is inf; allowed: a finite number"),
        (Binary, {"delta": math.nan}, "delta is nan; allowed: a finite number"),
        (Logistic, {"alpha": 0.0}, "alpha is 0; allowed: a finite number above 0"),
        (Logistic, {"alpha": math.inf}, "alpha is inf; allowed: a finite number above 0"),
        (Logistic, {"delta": math.nan}, "delta is nan; allowed: a finite number"),
        (LikelihoodRatio, {"alpha": -1.0}, "alpha is -1; allowed: a finite number above 0"),
        (Hybrid, {"beta": math.nan}, "beta is nan; allowed: a finite number above 0"),
        (NormalisedHybrid, {"alpha": 0.0}, "alpha is 0; allowed: a finite number above 0"),
        (NormalisedHybrid, {"delta": math.inf}, "delta is inf; allowed: a finite number"),
        (Budget, {"gamma": 1.5}, "gamma is 1.5; allowed: a number from 0 to 1"),
    ],
)
def test_a_number_that_makes_no_rule_is_refused(kind: type[Weighting], numbers: dict[str, float], allowed: str) -> None:
    """The error says which number it was, and what is allowed."""
    with pytest.raises(ValueError, match="^" + allowed.replace(".", r"\.") + "$"):
        kind(**numbers)


@pytest.mark.parametrize("kind", WEIGHTINGS.values(), ids=list(WEIGHTINGS))
def test_every_rule_has_only_numbers_with_a_default(kind: type[Weighting]) -> None:
    """A job may name a rule and nothing else: the JSON schema is made from these fields."""
    rule = kind()
    assert all(isinstance(getattr(rule, field.name), float) for field in fields(rule))  # type: ignore[arg-type]


def test_the_default_threshold_is_the_papers() -> None:
    """RSD, section 3, default setting: "the binary step function [...] and set delta = 0.7"."""
    assert Binary().delta == 0.7
