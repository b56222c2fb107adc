"""A figure with its 95 % interval, and how means and ratios are estimated.

The unit is the problem: steps and seeds of one problem are alike, so they are not independent observations.
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
    """A figure with its 95 % interval, which is (-inf, inf) for fewer than two observations."""

    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def half_width(self) -> float | None:
        """Return half of the interval's width; None if the interval has no end."""
        return (self.high - self.low) / 2 if math.isfinite(self.high - self.low) else None

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values, one per problem (or per seed), with its t-interval.

    Raises ``statistics.StatisticsError`` for no values.
    """
    return _estimate_by_t(statistics.fmean(values), values)


def estimate_ratio(parts: Sequence[int], wholes: Sequence[int]) -> Estimate:
    """Return sum(parts) / sum(wholes) with its t-interval; a pair per problem, the sum of wholes above 0.

    The interval is that of a ratio estimator (Cochran, *Sampling Techniques*, section 2.11): a problem with more steps
    has more to say, and a step is not independent of the others of its problem.
    """
    share = sum(parts) / sum(wholes)
    mean_whole = statistics.fmean(wholes)
    residuals = [(part - share * whole) / mean_whole for part, whole in zip(parts, wholes, strict=True)]
    return _estimate_by_t(share, residuals)


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
