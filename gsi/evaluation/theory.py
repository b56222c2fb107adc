"""What the GSI paper's theorems say about recorded jobs, and how far the numbers that they need can be trusted.

Pure functions of records. Divergences have no unit; log ratios and epsilon are in nats. Both theorems speak of one
prefix. Records have few candidates after each prefix, so the estimates are means over the recorded prefixes; the worst
prefix is at least as bad.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsi.algorithm.params import Likelihood
from gsi.errors import InvalidRequestError
from gsi.evaluation.draft_proposals import DraftProposal, read_draft_proposals
from gsi.evaluation.estimates import Estimate, bootstrap_mean
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.tables import Column, write_table
from gsi.evaluation.theorems import (
    CAUTION,
    exp_or_inf,
    rejection_total_variation,
    theorem_1_epsilon,
    theorem_1_log10_n,
    theorem_2_bound,
)

INFINITE_MOMENT_SHAPE = 0.5  # shape of the ratio's tail from which on E[ratio^2] is infinite
INFINITE_VARIANCE_SHAPE = 0.25  # from which on ratio^2 has no variance, and its mean no honest interval
MIN_TAIL_SAMPLES = 25  # the shape's standard error is about (1 + shape) / sqrt(samples): 0.2 and more with fewer
MIN_EXCEEDANCE = 1e-300  # relative to the largest value: 1 / exceedance must not overflow
LARGEST_SHARE = 0.1  # of the sum of ratio^2: where one sample has more, the estimate rests on that sample

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tail:
    """The generalised Pareto shape of the largest ratios; -inf if they are equal, nan if there are none."""

    shape: float
    num_samples: int  # that the shape rests on


@dataclass(frozen=True, slots=True)
class TheoryReport:
    """Estimates of pi_B / pi_S, what the theorems promise with them, and why not to believe it (``warnings``)."""

    num_problems: int
    num_prefixes: int
    num_samples: int
    mean_ratio: Estimate  # E_S[pi_B / pi_S]: 1 where the draft covers the target
    second_moment: Estimate  # chi^2(pi_B || pi_S) + 1, mean over prefixes
    second_moment_first: Estimate  # the same after the prompts alone
    max_ratio: float  # the coverage constant of equation 3 is at least this
    largest_share: float  # share of the sum of ratio^2 that one sample has
    tail: Tail
    cv_squared: Estimate  # CV^2(e^{beta r}) under the target; nan where the target wrote too little
    acceptance: Estimate  # share of recorded steps that were accepted
    beta: float
    reward_bound: float
    n: int
    epsilon: float
    theorem_1_log10_n: float  # n for which KL <= epsilon is promised
    theorem_1_epsilon: float  # KL that is promised at the recorded n, nats
    theorem_2_bound: float  # nan without cv_squared, as the next one
    rejection_total_variation: float  # of Algorithm 1 with its test, at the recorded n and acceptance
    warnings: tuple[str, ...]


def estimate_moment(proposals: Sequence[DraftProposal], power: int) -> Estimate:
    """Return E_S[(pi_B / pi_S)^power], the mean over prefixes of the mean over candidates, with its 95 % interval.

    Power 1 is 1 by definition where the draft covers the target; power 2 is chi^2(pi_B || pi_S) + 1 (section 2). Each
    estimate is unbiased, but where the tail is heavy nearly all estimates are too low. Computed relative to the largest
    ratio, so that nothing overflows before the result does (then inf). The interval is ``bootstrap_mean``'s.
    """
    problems = [proposal.problem for proposal in proposals]
    logs = [power * np.array(proposal.log_ratios) for proposal in proposals]
    scale = max((float(values.max()) for values in logs), default=-math.inf)
    if scale == -math.inf:
        return bootstrap_mean([0.0] * len(proposals), problems)
    scaled = bootstrap_mean([float(np.exp(values - scale).mean()) for values in logs], problems)
    return Estimate(*(_multiply_by_exp(value, scale) for value in (scaled.value, scaled.low, scaled.high)))


def estimate_relative_variance(rewards: Sequence[float], beta: float) -> float:
    """Return CV^2(e^{beta r}) = Var / mean^2 of target candidates' rewards (Theorem 2); NaN rewards weigh 0.

    Of m candidates it is at most m - 1, so few candidates make it too small. nan if no reward is a number.
    """
    numbers = np.array([beta * reward for reward in rewards if not math.isnan(reward)])
    if not len(numbers):
        return math.nan
    weights = np.zeros(len(rewards))
    weights[: len(numbers)] = np.exp(numbers - numbers.max())
    return float(weights.var() / weights.mean() ** 2)


def fit_tail(log_values: Sequence[float]) -> Tail:
    """Fit a generalised Pareto law to the largest of S values, given by their logarithms; return its shape k.

    The min(S / 5, 3 sqrt(S)) largest are fitted, over the next smaller value as threshold, by the estimator of Zhang
    and Stephens (*Technometrics* 51, 2009): Vehtari, Simpson, Gelman, Yao and Gabry, *Pareto Smoothed Importance
    Sampling* (JMLR 25, 2024), without that paper's prior on k. Moments of order below 1 / k are finite. In samples of
    25 drawn from known laws the estimate was nearer to k than the maximum likelihood of ``scipy.stats.genpareto.fit``,
    which was too low by up to 0.3, the dangerous side; from 100 samples on the two agree.
    """
    logs = np.sort(np.asarray(log_values, dtype=np.float64))
    num_tail = math.ceil(min(len(logs) / 5, 3 * math.sqrt(len(logs))))
    if num_tail >= len(logs) or logs[-1] == -math.inf:
        return Tail(math.nan, 0)
    threshold = logs[-num_tail - 1]
    exceedances = np.exp(logs[-num_tail:] - logs[-1]) - np.exp(threshold - logs[-1])  # a scale does not change k
    exceedances = exceedances[exceedances > MIN_EXCEEDANCE]
    if not len(exceedances):
        return Tail(-math.inf, num_tail)  # all values of the tail are equal
    return Tail(_estimate_pareto_shape(exceedances), num_tail)


def apply_theorems(records: Sequence[RecordedJob], reward_bound: float = 1.0, epsilon: float = 0.1) -> TheoryReport:
    """Estimate what the theorems need from records of one setting, apply them, and say what cannot be trusted.

    ``reward_bound`` is ||r||, 1 for a PRM that answers in [0, 1]; ``epsilon`` is in nats. The theorems are applied to
    the mean over prefixes. Raises InvalidRequestError if no draft proposal has every reward and both likelihoods, and
    if a reward is beyond its bound.
    """
    proposals = read_draft_proposals(records)
    _check_records(records, proposals, reward_bound)
    beta, n = float(records[0].params["beta"]), records[0].n
    logs = np.array([ratio for proposal in proposals for ratio in proposal.log_ratios])
    mean_ratio, second_moment = estimate_moment(proposals, 1), estimate_moment(proposals, 2)
    tail, largest_share = fit_tail(list(logs)), _compute_largest_share(logs)
    cv_squared, acceptance = _estimate_cv_squared(proposals, beta), _estimate_acceptance_share(proposals)
    chi_square = max(0.0, second_moment.value - 1)  # an estimate may fall below what a divergence can be
    with_test = (n, acceptance.value, beta, reward_bound, chi_square, cv_squared.value)
    has_bounds = not math.isnan(cv_squared.value)
    return TheoryReport(
        num_problems=len({proposal.problem for proposal in proposals}),
        num_prefixes=len(proposals),
        num_samples=len(logs),
        mean_ratio=mean_ratio,
        second_moment=second_moment,
        second_moment_first=estimate_moment([proposal for proposal in proposals if proposal.is_first], 2),
        max_ratio=exp_or_inf(float(logs.max())),
        largest_share=largest_share,
        tail=tail,
        cv_squared=cv_squared,
        acceptance=acceptance,
        beta=beta,
        reward_bound=reward_bound,
        n=n,
        epsilon=epsilon,
        theorem_1_log10_n=theorem_1_log10_n(chi_square, beta, reward_bound, epsilon),
        theorem_1_epsilon=theorem_1_epsilon(n, chi_square, beta, reward_bound),
        theorem_2_bound=theorem_2_bound(*with_test) if has_bounds else math.nan,
        rejection_total_variation=rejection_total_variation(*with_test) if has_bounds else math.nan,
        warnings=_list_warnings(tail, mean_ratio, largest_share, records[0].params.get("likelihood")),
    )


def write_theory(report: TheoryReport) -> str:
    """Return the report in Markdown: a table, and the warnings as sentences."""
    figures = {
        "problems, prefixes, candidates": f"{report.num_problems}, {report.num_prefixes}, {report.num_samples}",
        "E[pi_B / pi_S] (should be 1)": str(report.mean_ratio),
        "chi^2(pi_B \\|\\| pi_S) + 1": str(report.second_moment),
        "the same, first steps": str(report.second_moment_first),
        "C_inf, at least": f"{report.max_ratio:.3g}",
        "largest sample's share of it all": f"{report.largest_share:.1%}",
        "shape of the tail": f"{report.tail.shape:.2f} (from {report.tail.num_samples} samples)",
        "CV^2(e^(beta r)) under the target": str(report.cv_squared),
        "share of steps accepted": str(report.acceptance),
        f"Theorem 1: n for KL <= {report.epsilon:g}": f"10^{report.theorem_1_log10_n:.1f}",
        f"Theorem 1: KL at n = {report.n}": f"{report.theorem_1_epsilon:.3g}",
        f"Theorem 2: loss of reward at n = {report.n}": f"{report.theorem_2_bound:.3g}",
        f"With the test: total variation at n = {report.n}": f"{report.rejection_total_variation:.3g}",
    }
    columns = [
        Column("figure", list(figures), is_number=False),
        Column("estimate", list(figures.values()), is_number=False),
    ]
    setting = (
        f"beta = {report.beta:g}, rewards up to {report.reward_bound:g}; in brackets 95 % intervals over problems."
    )
    sentences = [f"- {sentence}" for sentence in (*report.warnings, CAUTION)]
    return "\n".join([write_table(columns), "", setting, "", *sentences]) + "\n"


def _check_records(records: Sequence[RecordedJob], proposals: Sequence[DraftProposal], reward_bound: float) -> None:
    if len({(record.n, record.params["beta"], record.params.get("likelihood")) for record in records}) > 1:
        raise InvalidRequestError("records: of several settings; allowed: records of one (n, beta, likelihood)")
    rewards = [abs(reward) for proposal in proposals for reward in proposal.rewards if not math.isnan(reward)]
    largest = max(rewards, default=0.0)
    if not largest <= reward_bound < math.inf:
        raise InvalidRequestError(
            f"reward_bound: {reward_bound} is not allowed; allowed: finite numbers from {largest}, the largest recorded"
        )


def _multiply_by_exp(value: float, log_scale: float) -> float:
    """Return value * e^log_scale, inf where that overflows."""
    return exp_or_inf(math.log(value) + log_scale) if 0 < value < math.inf else value


def _estimate_pareto_shape(exceedances: Values) -> float:
    """Estimate k from ascending exceedances above 0 (Zhang and Stephens, 2009, with k's sign as is usual today).

    theta = -k / sigma is averaged over a grid, each place weighed by its profile likelihood; k follows from theta.
    The grid has 30 + sqrt(size) places, as in PSIS.
    """
    size = len(exceedances)
    num_places = 30 + math.isqrt(size)
    quartile = exceedances[max(0, math.floor(size / 4 + 0.5) - 1)]
    places = np.arange(1, num_places + 1) - 0.5
    theta = 1 / exceedances[-1] + (1 - np.sqrt(num_places / places)) / (3 * quartile)
    theta = theta[theta != 0]  # there the law is exponential and k / theta is 0 / 0
    shapes = np.log1p(-theta[:, None] * exceedances).mean(axis=1)
    log_likelihoods = size * (np.log(-theta / shapes) - shapes - 1)
    weights = np.exp(log_likelihoods - log_likelihoods.max())
    return float(np.log1p(-(theta @ weights) / weights.sum() * exceedances).mean())


def _compute_largest_share(log_ratios: Values) -> float:
    """Return the share of the sum of ratio^2 that the largest ratio has."""
    largest = float(log_ratios.max())
    return 1 / float(np.exp(2 * (log_ratios - largest)).sum()) if largest > -math.inf else math.nan


def _estimate_cv_squared(proposals: Sequence[DraftProposal], beta: float) -> Estimate:
    """Return the mean over the prefixes after which the target proposed at least two candidates."""
    found = [
        (estimate_relative_variance(proposal.target_rewards, beta), proposal.problem)
        for proposal in proposals
        if len(proposal.target_rewards) > 1
    ]
    known = [(value, problem) for value, problem in found if not math.isnan(value)]
    return bootstrap_mean([value for value, _ in known], [problem for _, problem in known])


def _estimate_acceptance_share(proposals: Sequence[DraftProposal]) -> Estimate:
    is_accepted = [float(proposal.is_accepted) for proposal in proposals]
    return bootstrap_mean(is_accepted, [proposal.problem for proposal in proposals])


def _list_warnings(tail: Tail, mean_ratio: Estimate, largest_share: float, likelihood: str | None) -> tuple[str, ...]:
    """Return a sentence for each reason not to trust the second moment."""
    found = []
    if mean_ratio.low == -math.inf:
        found.append("All records are of one problem: how far the estimates may be off is not known.")
    if tail.num_samples < MIN_TAIL_SAMPLES:
        found.append(
            f"Only {tail.num_samples} samples are in the tail, fewer than {MIN_TAIL_SAMPLES}: its shape is not known."
        )
    if tail.shape >= INFINITE_MOMENT_SHAPE:
        found.append(
            f"The tail of pi_B / pi_S has shape {tail.shape:.2f}; from {INFINITE_MOMENT_SHAPE} on its second moment is "
            "infinite: chi^2 is larger than estimated, and more samples will raise it."
        )
    elif tail.shape >= INFINITE_VARIANCE_SHAPE:
        found.append(
            f"The tail of pi_B / pi_S has shape {tail.shape:.2f}; from {INFINITE_VARIANCE_SHAPE} on the interval of "
            "chi^2 is too narrow."
        )
    if not mean_ratio.low <= 1 <= mean_ratio.high:
        found.append(
            f"E[pi_B / pi_S] is estimated as {mean_ratio}, which should hold 1: the draft does not cover the target, "
            "or there are too few samples to see where it does."
        )
    if not largest_share <= LARGEST_SHARE:
        found.append(
            f"One sample carries {largest_share:.0%} of the sum of (pi_B / pi_S)^2; more than {LARGEST_SHARE:.0%} is "
            "too much for an estimate."
        )
    if likelihood == Likelihood.MODEL:
        found.append("Likelihoods are the models', not of the law that was sampled from: E[pi_B / pi_S] need not be 1.")
    return tuple(found)
