"""Soft best-of-n (GSI paper, section 2; lines 5 and 11 of Algorithm 1).

    P(select i) = exp(beta * s_i) / sum_j exp(beta * s_j)

with s the rewards (S-BoN) or the tilted rewards (GSI). Computed in log space: beta * s may be in the thousands.
"""

import math
from collections.abc import Sequence
from itertools import accumulate


def probabilities(scores: Sequence[float], beta: float) -> list[float]:
    """Return softmax(beta * scores).

    A score of -inf gets probability 0. If every score is -inf, no score is better than another and the law is uniform;
    any threshold rejects a draft candidate that was selected so, since its tilted reward is -inf.
    Raises ValueError for no scores, NaN or +inf.
    """
    if not scores:
        raise ValueError("soft best-of-n needs at least one score")
    if any(math.isnan(s) or s == math.inf for s in scores):
        raise ValueError(f"scores must be numbers below infinity; got {list(scores)}")
    best = max(scores)
    if best == -math.inf:
        return [1 / len(scores)] * len(scores)
    weights = [math.exp(beta * (s - best)) for s in scores]  # the best weighs 1: no overflow, sum >= 1
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def select(scores: Sequence[float], beta: float, uniform: float) -> int:
    """Return the index drawn with ``probabilities(scores, beta)`` at ``uniform`` in [0, 1).

    Inverse of the cumulative law in index order, so equal scores share their weight equally and the same
    ``uniform`` always gives the same index. Never returns an index of probability 0.
    """
    if not 0 <= uniform < 1:
        raise ValueError(f"uniform must be in [0, 1); got {uniform}")
    law = probabilities(scores, beta)
    last_possible = max(i for i, p in enumerate(law) if p > 0)
    drawn = (i for i, cumulated in enumerate(accumulate(law)) if uniform < cumulated)
    return min(next(drawn, last_possible), last_possible)  # rounding may leave the last sum a hair below 1
