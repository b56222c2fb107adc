"""What a particle filter does with weights: the effective sample size, systematic resampling, their mean.

Source: Doucet and Johansen, *A Tutorial on Particle Filtering and Smoothing* (2009), sections 3.4 and 3.5.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def effective_sample_size(weights: Sequence[float]) -> float:
    """Return (sum of w)^2 / sum of w^2: n for equal weights, 1 if one particle has all the weight."""
    return math.fsum(weights) ** 2 / math.fsum(weight * weight for weight in weights)


def resample_systematically(weights: Sequence[float], uniform: float) -> list[int]:
    """Return the ancestor of each of n new particles, in ascending order. The n ``weights`` sum to 1.

    One ``uniform`` in [0, 1) places the n points (uniform + i) / n, and each takes the particle in whose share of
    [0, 1) it lies. So particle i has floor(n w_i) or ceil(n w_i) copies, n w_i in expectation, and none of weight 0.
    """
    n, ends = len(weights), list(accumulate(weights))
    last_possible = max(index for index, weight in enumerate(weights) if weight > 0)
    return [min(bisect_right(ends, (uniform + i) / n), last_possible) for i in range(n)]


def log_mean(log_weights: Sequence[float]) -> float:
    """Return the logarithm of the mean weight; -inf if every weight is 0."""
    most = max(log_weights)
    if most == -math.inf:
        return most
    return most + math.log(math.fsum(math.exp(each - most) for each in log_weights) / len(log_weights))
