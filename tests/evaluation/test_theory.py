"""The theorems against hand calculation, the estimates against worlds and laws that are known."""

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import genpareto
from typer.testing import CliRunner

from gsi.algorithm.params import Params
from gsi.cli.main import app
from gsi.errors import InvalidRequestError
from gsi.evaluation.draft_proposals import read_draft_proposals
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.theorems import (
    CAUTION,
    rejection_kl,
    rejection_total_variation,
    theorem_1_epsilon,
    theorem_1_log10_n,
    theorem_2_bound,
)
from gsi.evaluation.theory import (
    TheoryReport,
    apply_theorems,
    estimate_moment,
    estimate_relative_variance,
    fit_tail,
    write_theory,
)
from tests.algorithm import exact
from tests.algorithm.worlds import World
from tests.evaluation.calibration_records import jobs_with_log_ratios, recorded_jobs

WORLD = World(
    draft=(0.40, 0.25, 0.15, 0.10, 0.10),
    target=(0.10, 0.20, 0.30, 0.40, 0.00),
    reward=(0.30, 0.90, 0.60, 0.10, 0.95),
)
PARAMS = Params(n=8, n_target=64, beta=3.0, acceptance_threshold=0.5)
SECOND_MOMENT = exact.chi_square_divergence(WORLD.target, WORLD.draft) + 1


@cache
def jobs() -> list[RecordedJob]:
    """Return jobs of two steps, made once. The world does not turn, so all prefixes have the same laws."""
    return asyncio.run(recorded_jobs(WORLD, PARAMS, num_problems=200, num_steps=2))


def report_on(log_ratios: Sequence[Sequence[float]]) -> TheoryReport:
    return apply_theorems(jobs_with_log_ratios(log_ratios))


def test_theorem_1_by_hand() -> None:
    """(chi^2 + 1) e^{2 beta ||r||} = 1.5 e^2 = 11.0836; less 1, over e^0.5 - 1 = 0.648721: 15.544."""
    assert 10 ** theorem_1_log10_n(0.5, 1.0, 1.0, 0.5) == pytest.approx(10.0836 / 0.648721, rel=1e-5)
    assert theorem_1_log10_n(0.5, 1.0, 1.0, 0.5) == pytest.approx(math.log10(15.544), abs=1e-5)
    assert theorem_1_epsilon(15.544, 0.5, 1.0, 1.0) == pytest.approx(0.5, abs=1e-4)


def test_theorem_1_needs_nothing_where_draft_and_target_are_one_and_rewards_are_none() -> None:
    """Both laws are the same and nothing tilts them: the distance is 0 at every n."""
    assert 10 ** theorem_1_log10_n(0.0, beta=1.0, reward_bound=0.0, epsilon=0.1) == 0
    assert theorem_1_epsilon(1, 0.0, 1.0, 0.0) == 0


def test_theorem_1_asks_for_more_than_anybody_has_at_the_papers_beta() -> None:
    """e^40 is 2.4e17, so even with draft = target and a distance of 1 nat n is above 10^17."""
    assert 1e17 < 10 ** theorem_1_log10_n(0.0, beta=20.0, reward_bound=1.0, epsilon=1.0) < 2e17


def test_theorem_1_stays_a_number_in_logarithms() -> None:
    """e^2000 is no float; its logarithm is."""
    expected = (math.log(2) + 2000 - math.log(math.e - 1)) / math.log(10)
    assert theorem_1_log10_n(1.0, 1000.0, 1.0, 1.0) == pytest.approx(expected)
    assert theorem_1_epsilon(1000, 1.0, 1000.0, 1.0) == pytest.approx(math.log(2) + 2000 - math.log(1000))


@given(st.floats(0, 1e4), st.floats(0.1, 30), st.floats(0.1, 2), st.floats(1e-3, 20))
def test_theorem_1_turned_round_is_theorem_1(chi_square: float, beta: float, bound: float, epsilon: float) -> None:
    """The epsilon that is promised at the n of an epsilon is that epsilon."""
    n = 10 ** theorem_1_log10_n(chi_square, beta, bound, epsilon)
    assert theorem_1_epsilon(n, chi_square, beta, bound) == pytest.approx(epsilon, rel=1e-6)


def test_theorem_2_by_hand() -> None:
    """||r|| = 1, n = 4, p = 0.25: 1/2 * (0.5 * e * sqrt(4) + 0.75 * sqrt(2.25)) = 1/2 * (2.71828 + 1.125)."""
    assert theorem_2_bound(4, 0.25, 1.0, 1.0, chi_square=3.0, cv_squared=1.25) == pytest.approx(1.92164, abs=1e-5)


def test_theorem_2_leaves_out_the_branch_that_is_never_taken() -> None:
    """With p = 0 the draft has no part, however far away it is; with p = 1 the target's variance has none."""
    assert theorem_2_bound(4, 0.0, 1000.0, 1.0, chi_square=1e9, cv_squared=3.0) == 1.0
    assert theorem_2_bound(4, 1.0, 1000.0, 1.0, chi_square=0.0, cv_squared=0.0) == math.inf
    assert theorem_2_bound(1, 1.0, 1.0, 1.0, 0.0, cv_squared=1e9) == pytest.approx(math.e)


def test_the_bounds_with_rejection_by_hand() -> None:
    """p = 0.5, beta ||r|| = 0, chi^2 = 0.36, CV^2 = 0.64, n = 4: delta_S = 0.15, delta_B = 0.2.

    TV: 0.25 + min(0.25, 0.15) + 0.5 * 0.2. KL: 0.143841 + 0.15 log 3 + log(1.34) / 1.5 + log(1.41).
    """
    numbers = (4, 0.5, 1.0, 0.0, 0.36, 0.64)
    assert rejection_total_variation(*numbers) == pytest.approx(0.5)
    assert rejection_kl(*numbers) == pytest.approx(0.143841 + 0.164792 + 0.195113 + 0.343590, abs=1e-5)


def test_the_price_of_the_test_does_not_depend_on_n() -> None:
    """p (1 - p) at most: a quarter where every second step is accepted, 0.0819 at the paper's 91 %."""
    for p, price in ((0.5, 0.25), (0.91, 0.0819)):
        assert rejection_total_variation(1e30, p, 1.0, 1.0, 1.0, 1.0) == pytest.approx(price)


def test_the_bounds_with_rejection_stay_numbers() -> None:
    """Where e^{2 beta ||r||} overflows there is no more than p of them to lose, and KL grows like its exponent."""
    assert rejection_total_variation(16, 0.75, 1000.0, 1.0, 1.0, 0.0) == pytest.approx(0.75)
    assert rejection_kl(16, 0.5, 1000.0, 1.0, 1.0, 0.0) == pytest.approx(2000 / 1.5, rel=1e-2)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((-0.1, 1.0, 1.0, 0.1), "chi_square, beta, reward_bound: -0.1, 1.0, 1.0 are not allowed; allowed: "),
        ((0.1, 0.0, 1.0, 0.1), "chi_square, beta, reward_bound"),
        ((0.1, 1.0, -1.0, 0.1), "chi_square, beta, reward_bound"),
        ((0.1, 1.0, 1.0, 0.0), "epsilon: 0.0 is not allowed; allowed: numbers above 0"),
        ((math.nan, 1.0, 1.0, 0.1), "chi_square, beta, reward_bound"),
    ],
)
def test_theorem_1_refuses_what_means_nothing(values: tuple[float, float, float, float], sentence: str) -> None:
    """Each argument is named with what it may be."""
    with pytest.raises(InvalidRequestError, match=sentence):
        theorem_1_log10_n(*values)


def test_the_other_arguments_are_checked_too() -> None:
    """n and the probability of acceptance have their ranges."""
    with pytest.raises(InvalidRequestError, match="n: 0 is not allowed; allowed: numbers above 0"):
        theorem_1_epsilon(0, 0.1, 1.0, 1.0)
    with pytest.raises(InvalidRequestError, match="p_accept from 0 to 1"):
        theorem_2_bound(4, 1.1, 1.0, 1.0, 0.1, 0.1)
    for bound in (rejection_total_variation, rejection_kl):
        with pytest.raises(InvalidRequestError, match="n, p_accept, cv_squared: 4, "):
            bound(4, -0.1, 1.0, 1.0, 0.1, 0.1)


def test_the_command_prints_every_bound() -> None:
    """As a line each, or as one object."""
    words = ["theory", "--chi-square", "2", "--acceptance", "0.91"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0
    assert "With the test of line 6: at n = 16 TV <= 0.91, " in said.stdout
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["rejection_total_variation"] == rejection_total_variation(16, 0.91, 20.0, 1.0, 2.0, 0.0)
    assert found["rejection_kl"] == rejection_kl(16, 0.91, 20.0, 1.0, 2.0, 0.0)


def test_the_estimates_hold_the_exact_values() -> None:
    """chi^2 + 1 and the mean ratio are in their intervals, and the largest ratio is that of the fourth step."""
    report = apply_theorems(jobs())
    assert report.second_moment.low < SECOND_MOMENT < report.second_moment.high
    assert report.second_moment_first.low < SECOND_MOMENT < report.second_moment_first.high
    assert report.second_moment.high - report.second_moment.low < 0.5
    assert report.mean_ratio.low < 1 < report.mean_ratio.high
    assert report.max_ratio == pytest.approx(4)
    assert (report.num_problems, report.num_prefixes, report.num_samples) == (200, 400, 3200)


def test_the_estimate_is_unbiased() -> None:
    """Over 40 evaluations of 5 problems, the mean of the estimates is near the exact value."""
    steps = read_draft_proposals(jobs())
    estimates = [estimate_moment(steps[i : i + 10], 2).value for i in range(0, 400, 10)]
    assert np.std(estimates) > 0.1
    assert np.mean(estimates) == pytest.approx(SECOND_MOMENT, abs=0.15)


def test_the_variance_of_the_targets_weights_is_near_the_exact_one() -> None:
    """With 64 target candidates a resampling, CV^2 is close to that of the world."""
    weights = [math.exp(PARAMS.beta * r) for r in WORLD.reward]
    mean = exact.expectation(WORLD.target, weights)
    cv_squared = exact.expectation(WORLD.target, [w * w for w in weights]) / mean**2 - 1
    assert apply_theorems(jobs()).cv_squared.value == pytest.approx(cv_squared, abs=0.05)


def test_the_report_applies_the_theorems_to_the_estimates() -> None:
    """Theorem values in the report are those of its own figures."""
    report = apply_theorems(jobs(), reward_bound=0.95, epsilon=0.2)
    chi_square, accepted = report.second_moment.value - 1, report.acceptance.value
    assert 0 < accepted < 1
    assert report.theorem_1_log10_n == theorem_1_log10_n(chi_square, 3.0, 0.95, 0.2)
    assert report.theorem_1_epsilon == theorem_1_epsilon(8, chi_square, 3.0, 0.95)
    numbers = (8, accepted, 3.0, 0.95, chi_square, report.cv_squared.value)
    assert report.theorem_2_bound == theorem_2_bound(*numbers)
    assert report.rejection_total_variation == rejection_total_variation(*numbers)


def test_a_covered_world_gives_no_warning() -> None:
    """Bounded ratios and enough of them: nothing to be careful about but Theorem 2 itself."""
    report = apply_theorems(jobs())
    assert report.warnings == ()
    assert write_theory(report).count("\n- ") == 1
    assert CAUTION in write_theory(report)


async def test_a_step_that_the_draft_never_writes_shows_in_the_mean_ratio() -> None:
    """The target's mass of 0.3 outside the draft's support is missing from E_S[ratio]."""
    world = replace(WORLD, draft=(0.40, 0.35, 0.00, 0.15, 0.10))
    report = apply_theorems(await recorded_jobs(world, PARAMS, num_problems=100))
    assert report.mean_ratio.value == pytest.approx(0.7, abs=0.1)
    assert any(warning.startswith("E[pi_B / pi_S] is estimated as") for warning in report.warnings)
    assert len(report.warnings) == 1


def test_evenly_spread_ratios_give_no_warning() -> None:
    """Ratios uniform on [0, 2] have mean 1, second moment 4/3 and a tail of shape -1."""
    ratios = np.random.default_rng(1).uniform(0, 2, size=(200, 8))
    report = report_on(np.log(ratios).tolist())
    assert report.warnings == ()
    assert report.tail.shape == pytest.approx(-1, abs=0.2)
    assert report.second_moment.low < 4 / 3 < report.second_moment.high


@pytest.mark.parametrize("sigma", [3.0, 6.0])
def test_lognormal_ratios_with_a_wide_spread_are_not_trusted(sigma: float) -> None:
    """With mean 1 their second moment is e^{sigma^2}, which no such sample can show: tail and largest share warn."""
    logs = np.random.default_rng(0).normal(-(sigma**2) / 2, sigma, size=(200, 8))
    report = report_on(logs.tolist())
    assert report.second_moment.value < 0.5 * math.exp(sigma**2)
    assert report.tail.shape > 0.5
    assert any("its second moment is infinite" in warning for warning in report.warnings)
    assert any("One sample carries" in warning for warning in report.warnings)


def test_a_pareto_tail_is_not_trusted() -> None:
    """A tail of shape 0.8 has a mean and no second moment."""
    ratios = genpareto.rvs(0.8, scale=0.2, size=(300, 8), random_state=0)  # mean: scale / (1 - shape) = 1
    report = report_on(np.log(ratios).tolist())
    assert report.tail.shape == pytest.approx(0.8, abs=0.3)
    assert any("its second moment is infinite" in warning for warning in report.warnings)


def test_a_second_moment_without_a_variance_has_too_narrow_an_interval() -> None:
    """A tail of shape 0.4: chi^2 is finite, its interval is not to be believed."""
    quantiles = genpareto.ppf((np.arange(6_400) + 0.5) / 6_400, 0.4, scale=0.6)  # mean: scale / (1 - shape) = 1
    ratios = np.random.default_rng(0).permutation(quantiles).reshape(800, 8)
    report = report_on(np.log(ratios).tolist())
    assert 0.25 < report.tail.shape < 0.5
    assert any("the interval of chi^2 is too narrow" in warning for warning in report.warnings)


def test_few_samples_are_not_trusted() -> None:
    """Of 12 ratios 3 are in the tail, too few for its shape, and the largest carries much of the sum."""
    report = report_on([[-0.4, 0.1, 0.3]] * 3 + [[-1.0, 0.2, 1.5]])
    assert any(warning.startswith("Only 3 samples are in the tail, fewer than 25") for warning in report.warnings)
    assert any("One sample carries" in warning for warning in report.warnings)


def test_one_problem_has_no_interval() -> None:
    """All records of one problem: what another would have given is unknown, and the report says so."""
    assert report_on([[0.0] * 200]).warnings[0].startswith("All records are of one problem")


def test_likelihoods_of_another_law_are_pointed_out() -> None:
    """A job parameter may ask for likelihoods that are not of the sampled law; then the mean ratio need not be 1."""
    records = [
        record.model_copy(update={"params": {**record.params, "likelihood": "model"}})
        for record in jobs_with_log_ratios([[0.0] * 200] * 2)
    ]
    assert apply_theorems(records).warnings == (
        "Likelihoods are the models', not of the law that was sampled from: E[pi_B / pi_S] need not be 1.",
    )


def test_equal_laws_have_ratio_one_everywhere() -> None:
    """Draft = target: chi^2 is 0 exactly, and the tail is one value with nothing beyond it."""
    report = report_on([[0.0] * 10] * 30)
    assert (report.mean_ratio.value, report.second_moment.value) == (1, 1)
    assert report.tail.shape == -math.inf
    assert report.warnings == ()


def test_steps_that_the_target_would_never_write_have_ratio_zero() -> None:
    """-inf is an ordinary log ratio; where all are so, nothing is covered and every figure stays a number."""
    mixed = read_draft_proposals(jobs_with_log_ratios([[math.log(2), -math.inf]] * 3))
    assert estimate_moment(mixed, 1).value == pytest.approx(1)
    assert estimate_moment(mixed, 2).value == pytest.approx(2)
    nothing = report_on([[-math.inf] * 4] * 3)
    assert (nothing.mean_ratio.value, nothing.second_moment.value, nothing.max_ratio) == (0, 0, 0)
    assert any(warning.startswith("E[pi_B / pi_S]") for warning in nothing.warnings)


def test_large_ratios_overflow_only_where_the_result_does() -> None:
    """e^400 squared is no float, and its mean is inf rather than an error; the mean itself is a number."""
    steps = read_draft_proposals(jobs_with_log_ratios([[400.0, 0.0], [0.0, 0.0]]))
    assert estimate_moment(steps, 2).value == math.inf
    assert estimate_moment(steps, 1).value == pytest.approx(math.exp(400) / 4)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=20))
def test_the_second_moment_is_at_least_the_square_of_the_mean(log_ratios: list[float]) -> None:
    """Jensen: E[ratio^2] >= E[ratio]^2, for any sample behind one prefix."""
    steps = read_draft_proposals(jobs_with_log_ratios([log_ratios]))
    assert estimate_moment(steps, 2).value >= estimate_moment(steps, 1).value ** 2 * (1 - 1e-9)


@pytest.mark.parametrize("shape", [-0.5, 0.0, 0.3, 0.7, 1.0])
def test_the_shape_of_a_known_tail_is_found(shape: float) -> None:
    """Excesses of a generalised Pareto law over a threshold have its shape: estimates of 20 samples surround it."""
    rng = np.random.default_rng(0)
    found = [fit_tail(list(np.log(genpareto.rvs(shape, size=5_000, random_state=rng)))).shape for _ in range(20)]
    assert np.mean(found) == pytest.approx(shape, abs=0.06)
    assert np.std(found) < 0.2


def test_the_shape_does_not_depend_on_the_scale() -> None:
    """Multiplying every ratio by e^500 changes nothing, although the ratios are no floats any more."""
    logs = np.random.default_rng(0).normal(0, 2, size=1_000)
    assert fit_tail(list(logs + 500)).shape == pytest.approx(fit_tail(list(logs)).shape)


def test_in_small_samples_the_shape_is_nearer_than_that_of_maximum_likelihood() -> None:
    """Why the estimator is our own: from 25 exceedances scipy's is too low, on the side that hides a heavy tail."""
    rng, ours, scipys = np.random.default_rng(0), [], []
    for _ in range(100):
        logs = np.log(genpareto.rvs(0.3, size=125, random_state=rng))
        ours.append(fit_tail(list(logs)).shape)
        tail = np.exp(np.sort(logs)[-26:])
        scipys.append(genpareto.fit(tail[1:] - tail[0], floc=0)[0])
    assert abs(np.mean(ours) - 0.3) < abs(np.mean(scipys) - 0.3)
    assert np.mean(np.square(np.array(ours) - 0.3)) < np.mean(np.square(np.array(scipys) - 0.3))
    assert np.mean(scipys) < 0.3


@pytest.mark.parametrize("logs", [[], [0.0], [-math.inf] * 50])
def test_without_ratios_there_is_no_tail(logs: list[float]) -> None:
    """Too few values, or none above 0, have no shape."""
    tail = fit_tail(logs)
    assert math.isnan(tail.shape)
    assert tail.num_samples == 0


def test_the_relative_variance_by_hand() -> None:
    """Weights e^0 = 1 and e^{ln 3} = 3: mean 2, variance 1, CV^2 = 1/4. A NaN reward weighs nothing: 1 and 0."""
    assert estimate_relative_variance([0.0, 1.0], beta=math.log(3)) == pytest.approx(0.25)
    assert estimate_relative_variance([1.0, math.nan], beta=20.0) == pytest.approx(1)
    assert estimate_relative_variance([0.7] * 5, beta=20.0) == pytest.approx(0)
    assert math.isnan(estimate_relative_variance([math.nan], beta=20.0))


async def test_without_a_resampling_theorem_2_has_no_value() -> None:
    """The target's variance is unknown where it wrote nothing; the other figures are there."""
    report = apply_theorems(await recorded_jobs(WORLD, replace(PARAMS, acceptance_threshold=-1e6), num_problems=5))
    assert math.isnan(report.cv_squared.value)
    assert math.isnan(report.theorem_2_bound)
    assert math.isnan(report.rejection_total_variation)
    assert report.theorem_1_epsilon > 0


async def test_records_that_cannot_be_described_are_refused() -> None:
    """No scored draft proposal, several settings, and rewards beyond their bound are refused by name."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=2)
    with pytest.raises(InvalidRequestError, match="records: no draft proposal has every reward and both likelihoods"):
        apply_theorems([])
    other = records[0].model_copy(update={"params": {**records[0].params, "beta": 4.0}})
    with pytest.raises(InvalidRequestError, match="records: of several settings"):
        apply_theorems([*records, other])
    with pytest.raises(
        InvalidRequestError, match=r"reward_bound: 0.5 is not allowed; allowed: finite numbers from 0.9"
    ):
        apply_theorems(records, reward_bound=0.5)
