"""What the GSI paper's theorems say about recorded jobs, and how far the numbers that they need can be trusted.

Pure functions of numbers and of records. Divergences have no unit; log ratios and epsilon are in nats. Both theorems
speak of one prefix x. Records have few candidates behind each prefix, so what is estimated is the mean over the
recorded prefixes, which is at most the worst prefix's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsi.algorithm.params import Likelihood
from gsi.errors import InvalidRequestError
from gsi.evaluation.draft_proposals import DraftedStep, Interval, drafted_steps, estimate_mean
from gsi.evaluation.records import RecordedJob

INFINITE_MOMENT_SHAPE = 0.5  # of the ratio's tail: from here on E[ratio^2] is infinite
INFINITE_VARIANCE_SHAPE = 0.25  # from here on ratio^2 has no variance, and its mean no honest interval
MIN_TAIL_SAMPLES = 25  # the shape's standard error is about (1 + shape) / sqrt(samples): 0.2 and more with fewer
MIN_EXCEEDANCE = 1e-300  # relative to the largest value: 1 / exceedance must not overflow
LARGEST_SHARE = 0.1  # of the sum of ratio^2: where one sample carries more, the estimate is that sample
CAUTION = (
    "Theorem 2 does not hold in general: `tests/algorithm/test_paper.py` has a world in which the gap is more than "
    "twice the bound, because both branches are taken. Read the bound only where nearly every step goes one way."
)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tail:
    """The generalised Pareto shape of the largest ratios; -inf where they are equal, nan where there are none."""

    shape: float
    num_samples: int  # that the shape rests on


@dataclass(frozen=True, slots=True)
class TheoryReport:
    """What is estimated of pi_B / pi_S, what the theorems make of it, and why not to believe it (``warnings``)."""

    num_problems: int
    num_prefixes: int
    num_samples: int
    mean_ratio: Interval  # E_S[pi_B / pi_S]: 1 where the draft covers the target
    second_moment: Interval  # chi^2(pi_B || pi_S) + 1, mean over prefixes
    second_moment_first: Interval  # the same behind the prompts alone
    max_ratio: float  # the coverage constant of equation 3 is at least this
    largest_share: float  # of the sum of ratio^2 that one sample carries
    tail: Tail
    cv_squared: Interval  # CV^2(e^{beta r}) under the target; nan where it wrote too little
    acceptance: Interval  # share of recorded steps that were accepted
    beta: float
    reward_bound: float
    n: int
    epsilon: float
    theorem_1_log10_n: float  # n for which KL <= epsilon is promised
    theorem_1_epsilon: float  # KL that is promised at the recorded n, nats
    theorem_2_bound: float  # nan without cv_squared
    warnings: tuple[str, ...]


def theorem_1_log10_n(chi_square: float, beta: float, reward_bound: float, epsilon: float) -> float:
    """Return log10 of ``theorem_1_n``, which stays a number where n itself overflows; -inf for n = 0."""
    _check_theorem_1(chi_square, beta, reward_bound)
    if not epsilon > 0:
        raise InvalidRequestError(f"epsilon: {epsilon} is not allowed; allowed: numbers above 0")
    log_n = _log_expm1(math.log1p(chi_square) + 2 * beta * reward_bound) - _log_expm1(epsilon)
    return log_n / math.log(10)


def theorem_1_n(chi_square: float, beta: float, reward_bound: float, epsilon: float) -> float:
    """Return the n from which on Theorem 1 promises KL(pi_{beta,B} || tilted soft best-of-n) <= epsilon nats.

        n >= ((chi^2(pi_B || pi_S) + 1) e^{2 beta ||r||} - 1) / (e^epsilon - 1)

    Not rounded up; inf where it overflows (see ``theorem_1_log10_n``). With the paper's beta of 20 and rewards up to 1
    it is above e^40 / (e^epsilon - 1), more than 10^17 candidates for epsilon = 1: nobody will ever draw as many. The
    theorem shows that the method converges; it is no guide to n. It bounds the candidate that line 5 of Algorithm 1
    selects, not what the test of line 6 makes of it. Raises InvalidRequestError.
    """
    return _exp(theorem_1_log10_n(chi_square, beta, reward_bound, epsilon) * math.log(10))


def theorem_1_epsilon(n: float, chi_square: float, beta: float, reward_bound: float) -> float:
    """Return the KL divergence, in nats, that Theorem 1 promises with n candidates: ``theorem_1_n`` turned round.

    Raises InvalidRequestError.
    """
    _check_theorem_1(chi_square, beta, reward_bound)
    if not n > 0:
        raise InvalidRequestError(f"n: {n} is not allowed; allowed: numbers above 0")
    return float(np.logaddexp(0, _log_expm1(math.log1p(chi_square) + 2 * beta * reward_bound) - math.log(n)))


def theorem_2_bound(
    n: float, p_accept: float, beta: float, reward_bound: float, chi_square: float, cv_squared: float
) -> float:
    """Return the bound of Theorem 2 on E_{pi_{beta,B}}[r] - E_{pi_GSI}[r], on the reward's scale, with r* = r.

        ||r|| / sqrt(n) * (sqrt(p) e^{beta ||r||} sqrt(chi^2 + 1) + (1 - p) sqrt(CV^2(e^{beta r}) + 1))

    Do not rely on it where both branches are taken (p near neither 0 nor 1): there the theorem as stated is false, and
    ``tests/algorithm/test_paper.py`` has the counterexample. inf where it overflows. Raises InvalidRequestError.
    """
    _check_theorem_1(chi_square, beta, reward_bound)
    if not (n > 0 and 0 <= p_accept <= 1 and cv_squared >= 0):
        raise InvalidRequestError(
            f"n, p_accept, cv_squared: {n}, {p_accept}, {cv_squared} are not allowed; "
            "allowed: n above 0, p_accept from 0 to 1, cv_squared from 0"
        )
    accepted = math.sqrt(p_accept) * _exp(beta * reward_bound + math.log1p(chi_square) / 2) if p_accept > 0 else 0.0
    return reward_bound / math.sqrt(n) * (accepted + (1 - p_accept) * math.sqrt(cv_squared + 1))


def mean_power(steps: Sequence[DraftedStep], power: int) -> Interval:
    """Return E_S[(pi_B / pi_S)^power], the mean over prefixes of the mean over candidates, with its 95 % interval.

    Power 1 is 1 by definition where the draft covers the target; power 2 is chi^2(pi_B || pi_S) + 1 (section 2). Each
    is unbiased, but where the tail is heavy nearly all estimates are too low. Computed relative to the largest ratio,
    so that nothing overflows before the result does (then inf). The interval is ``estimate_mean``'s, over problems.
    """
    logs = [power * np.array(step.log_ratios) for step in steps]
    scale = max((float(values.max()) for values in logs), default=-math.inf)
    if scale == -math.inf:
        return estimate_mean([0.0] * len(steps), [step.problem for step in steps])
    scaled = estimate_mean([float(np.exp(v - scale).mean()) for v in logs], [step.problem for step in steps])
    return Interval(*(_scaled(value, scale) for value in (scaled.value, scaled.low, scaled.high)))


def relative_variance(rewards: Sequence[float], beta: float) -> float:
    """Return CV^2(e^{beta r}) = Var / mean^2 of target candidates' rewards (Theorem 2); NaN rewards weigh 0.

    Of m candidates it is at most m - 1, so few of them make it too small. nan where no reward is a number.
    """
    numbers = np.array([beta * reward for reward in rewards if not math.isnan(reward)])
    if not len(numbers):
        return math.nan
    weights = np.zeros(len(rewards))
    weights[: len(numbers)] = np.exp(numbers - numbers.max())
    return float(weights.var() / weights.mean() ** 2)


def tail_shape(log_values: Sequence[float]) -> Tail:
    """Fit a generalised Pareto law to the largest of S values, given by their logarithms; return its shape k.

    The min(S / 5, 3 sqrt(S)) largest are fitted, over the next smaller one as threshold, by the estimator of Zhang and
    Stephens (*Technometrics* 51, 2009): Vehtari, Simpson, Gelman, Yao and Gabry, *Pareto Smoothed Importance Sampling*
    (JMLR 25, 2024), without that paper's prior on k. Moments of order below 1 / k are finite. In samples of 25 drawn
    from known laws it was nearer to k than the maximum likelihood of ``scipy.stats.genpareto.fit``, which was too low
    by up to 0.3, the dangerous side; from 100 on the two agree.
    """
    logs = np.sort(np.asarray(log_values, dtype=np.float64))
    num_tail = math.ceil(min(len(logs) / 5, 3 * math.sqrt(len(logs))))
    if num_tail >= len(logs) or logs[-1] == -math.inf:
        return Tail(math.nan, 0)
    threshold = logs[-num_tail - 1]
    exceedances = np.exp(logs[-num_tail:] - logs[-1]) - np.exp(threshold - logs[-1])  # a scale does not change k
    exceedances = exceedances[exceedances > MIN_EXCEEDANCE]
    if not len(exceedances):
        return Tail(-math.inf, num_tail)  # the tail is one value: there is nothing beyond it
    return Tail(_generalised_pareto_shape(exceedances), num_tail)


def describe(records: Sequence[RecordedJob], reward_bound: float = 1.0, epsilon: float = 0.1) -> TheoryReport:
    """Estimate what the theorems need from records of one setting, apply them, and say what cannot be trusted.

    ``reward_bound`` is ||r||, 1 for a PRM that answers in [0, 1]; ``epsilon`` is in nats. The theorems are applied to
    the mean over prefixes. Raises InvalidRequestError where no draft proposal has every reward and both likelihoods,
    and where a reward is beyond its bound.
    """
    steps = drafted_steps(records)
    if not steps:
        raise InvalidRequestError(
            "records: no draft proposal has every reward and both likelihoods; allowed: records of method gsi"
        )
    if len({(record.n, record.params["beta"], record.params.get("likelihood")) for record in records}) > 1:
        raise InvalidRequestError("records: of several settings; allowed: records of one (n, beta, likelihood)")
    largest = max((abs(reward) for step in steps for reward in step.rewards if not math.isnan(reward)), default=0.0)
    if not largest <= reward_bound < math.inf:
        raise InvalidRequestError(
            f"reward_bound: {reward_bound} is not allowed; allowed: finite numbers from {largest}, the largest recorded"
        )
    beta, n = float(records[0].params["beta"]), records[0].n
    logs = np.array([ratio for step in steps for ratio in step.log_ratios])
    mean_ratio, second_moment = mean_power(steps, 1), mean_power(steps, 2)
    tail, largest_share = tail_shape(list(logs)), _largest_share(logs)
    cv_squared, acceptance = _cv_squared(steps, beta), _acceptance(steps)
    chi_square = max(0.0, second_moment.value - 1)  # an estimate may fall below what a divergence can be
    bound = theorem_2_bound(n, acceptance.value, beta, reward_bound, chi_square, max(0.0, cv_squared.value))
    return TheoryReport(
        num_problems=len({step.problem for step in steps}),
        num_prefixes=len(steps),
        num_samples=len(logs),
        mean_ratio=mean_ratio,
        second_moment=second_moment,
        second_moment_first=mean_power([step for step in steps if step.is_first], 2),
        max_ratio=_exp(float(logs.max())),
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
        theorem_2_bound=math.nan if math.isnan(cv_squared.value) else bound,
        warnings=_warnings(tail, mean_ratio, largest_share, records[0].params.get("likelihood")),
    )


def to_markdown(report: TheoryReport) -> str:
    """Return the report as a table and its warnings as sentences."""
    rows = [
        ("problems, prefixes, candidates", f"{report.num_problems}, {report.num_prefixes}, {report.num_samples}"),
        ("E[pi_B / pi_S] (should be 1)", str(report.mean_ratio)),
        ("chi^2(pi_B \\|\\| pi_S) + 1", str(report.second_moment)),
        ("the same, first steps", str(report.second_moment_first)),
        ("C_inf, at least", f"{report.max_ratio:.3g}"),
        ("largest sample's share of it all", f"{report.largest_share:.1%}"),
        ("shape of the tail", f"{report.tail.shape:.2f} (from {report.tail.num_samples} samples)"),
        ("CV^2(e^(beta r)) under the target", str(report.cv_squared)),
        ("share of steps accepted", str(report.acceptance)),
        (f"Theorem 1: n for KL <= {report.epsilon:g}", f"10^{report.theorem_1_log10_n:.1f}"),
        (f"Theorem 1: KL at n = {report.n}", f"{report.theorem_1_epsilon:.3g}"),
        (f"Theorem 2: loss of reward at n = {report.n}", f"{report.theorem_2_bound:.3g}"),
    ]
    table = ["| figure | estimate |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    setting = (
        f"beta = {report.beta:g}, rewards up to {report.reward_bound:g}; in brackets 95 % intervals over problems."
    )
    sentences = [f"- {sentence}" for sentence in (*report.warnings, CAUTION)]
    return "\n".join([*table, "", setting, "", *sentences]) + "\n"


def _check_theorem_1(chi_square: float, beta: float, reward_bound: float) -> None:
    if not (chi_square >= 0 and beta > 0 and reward_bound >= 0):
        raise InvalidRequestError(
            f"chi_square, beta, reward_bound: {chi_square}, {beta}, {reward_bound} are not allowed; "
            "allowed: chi_square and reward_bound from 0, beta above 0"
        )


def _log_expm1(x: float) -> float:
    """Return log(e^x - 1) for x >= 0, without overflow."""
    return x + math.log(-math.expm1(-x)) if x > 0 else -math.inf


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _scaled(value: float, log_scale: float) -> float:
    """Return value * e^log_scale, inf where that overflows."""
    return _exp(math.log(value) + log_scale) if 0 < value < math.inf else value


def _generalised_pareto_shape(exceedances: Values) -> float:
    """Estimate k from ascending exceedances above 0 (Zhang and Stephens, 2009, with k's sign as is usual today).

    theta = -k / sigma is averaged over a grid, each place weighed by its profile likelihood; k follows from theta.
    The grid has 30 + sqrt(size) places, as the authors of PSIS have it.
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


def _largest_share(log_ratios: Values) -> float:
    largest = float(log_ratios.max())
    return 1 / float(np.exp(2 * (log_ratios - largest)).sum()) if largest > -math.inf else math.nan


def _cv_squared(steps: Sequence[DraftedStep], beta: float) -> Interval:
    """Return the mean over prefixes behind which the target proposed at least two candidates."""
    found = [
        (relative_variance(step.target_rewards, beta), step.problem) for step in steps if len(step.target_rewards) > 1
    ]
    known = [(value, problem) for value, problem in found if not math.isnan(value)]
    return estimate_mean([value for value, _ in known], [problem for _, problem in known])


def _acceptance(steps: Sequence[DraftedStep]) -> Interval:
    return estimate_mean([float(step.is_accepted) for step in steps], [step.problem for step in steps])


def _warnings(tail: Tail, mean_ratio: Interval, largest_share: float, likelihood: str | None) -> tuple[str, ...]:
    """Return a plain sentence for each reason not to trust the second moment."""
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
