"""A figure with its 95 % interval, and how shares, differences, means and ratios are estimated.

The unit is the problem: steps and seeds of one problem are alike, so they are not independent observations.

A share near 0 or 1 has no interval by Student's t that deserves the name: of 8 right answers of 8 it would be 100 ± 0.
So shares have the exact interval (Clopper and Pearson), and differences of shares one that counts two more problems.
``tests/evaluation/test_intervals.py`` calculates how often they cover the truth.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

NUM_RESAMPLES = 2_000  # of the bootstrap; a quantile at 2.5 % then rests on 50 of them
TWO_SIDED_95 = 0.975  # quantile of a 95 % interval's upper end


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, which is (-inf, inf) where nothing is known of it."""

    value: float
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values, one per problem (or per seed), with its t-interval.

    Raises ``statistics.StatisticsError`` for no values.
    """
    return _estimate_by_t(statistics.fmean(values), values)


def estimate_share(values: Sequence[float], num_observations: int) -> Estimate:
    """Return the mean of shares, one per problem, of ``num_observations`` answers (problems times seeds).

    With an answer per problem the interval is Clopper and Pearson's (1934), which covers the truth in at least 95 % of
    cases. With several seeds it is Korn and Graubard's (*Survey Methodology* 24, 1998): the same, for the number of
    independent answers that would vary as much. Raises ``statistics.StatisticsError`` for no values.
    """
    variance = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    return _estimate_share(statistics.fmean(values), variance, len(values), num_observations)


def estimate_ratio(parts: Sequence[int], wholes: Sequence[int]) -> Estimate:
    """Return the share sum(parts) / sum(wholes); a pair per problem, the sum of wholes above 0.

    The interval is Korn and Graubard's, with the variance of a ratio estimator (Cochran, *Sampling Techniques*, section
    2.11): a problem with more steps has more to say, and a step is not independent of the others of its problem.
    """
    share = sum(parts) / sum(wholes)
    mean_whole = statistics.fmean(wholes)
    residuals = [(part - share * whole) / mean_whole for part, whole in zip(parts, wholes, strict=True)]
    variance = statistics.variance(residuals) / len(parts) if len(parts) > 1 else 0.0
    return _estimate_share(share, variance, len(parts), sum(wholes))


def estimate_difference(differences: Sequence[float]) -> Estimate:
    """Return the mean of paired differences in [-1, 1], one per problem.

    As Agresti and Min do (*Statistics in Medicine* 24, 2005), the interval counts two problems more, one won and one
    lost, so that it is not empty without a difference. By Student's t, and half a problem wider on each side, since
    wins are whole numbers, it covers the truth in at least 95 % of cases. Raises ``statistics.StatisticsError`` for no
    values.
    """
    mean, num = statistics.fmean(differences), len(differences)
    if num < 2:
        return Estimate(mean, -1.0, 1.0)
    counted = [*differences, 1.0, -1.0]
    centre, error = statistics.fmean(counted), statistics.pstdev(counted) / math.sqrt(num + 1)
    half_width = float(stats.t.ppf(TWO_SIDED_95, num - 1)) * error + 0.5 / num
    return Estimate(mean, max(-1.0, centre - half_width), min(1.0, centre + half_width))


def bootstrap_mean(values: Sequence[float], problems: Sequence[str]) -> Estimate:
    """Return the mean of values, one per step, with the 95 % interval of a bootstrap over problems.

    Percentiles of ``NUM_RESAMPLES`` resamples of whole problems (Davison and Hinkley, *Bootstrap Methods and their
    Application*, 1997, section 3.8), always the same resamples. The mean of no values is nan.
    """
    if not values:
        return Estimate(math.nan)
    names, owner = np.unique(np.asarray(problems), return_inverse=True)
    sums, counts = np.bincount(owner, weights=values), np.bincount(owner)
    mean = float(sums.sum() / counts.sum())
    if len(names) == 1:
        return Estimate(mean)
    interval = stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=NUM_RESAMPLES,
        rng=0,
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high))


def _estimate_by_t(value: float, observations: Sequence[float]) -> Estimate:
    """Return a value whose error is that of the mean of the observations (Student's t)."""
    if len(observations) < 2:
        return Estimate(value)
    quantile = float(stats.t.ppf(TWO_SIDED_95, len(observations) - 1))
    half_width = quantile * statistics.stdev(observations) / math.sqrt(len(observations))
    return Estimate(value, value - half_width, value + half_width)


def _estimate_share(share: float, variance: float, num_problems: int, num_observations: int) -> Estimate:
    """Return a share with the exact interval of as many independent observations as have this variance."""
    num = float(num_problems)  # all seeds agree: they tell no more than one
    if num_observations > num_problems > 1 and variance > 0:
        widths = stats.t.ppf(TWO_SIDED_95, (num_observations - 1, num_problems - 1))
        num = min(num_observations, share * (1 - share) / variance * float(widths[0] / widths[1]) ** 2)
    right = share * num
    low = float(stats.beta.ppf(1 - TWO_SIDED_95, right, num - right + 1)) if share > 0 else 0.0
    high = float(stats.beta.ppf(TWO_SIDED_95, right + 1, num - right)) if share < 1 else 1.0
    return Estimate(share, low, high)
