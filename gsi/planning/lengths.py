"""How many tokens the candidates of a step have: on average, the shortest and the longest of n."""

import math


def expected_length(step_tokens: float, limit: int) -> float:
    """Return the mean tokens of a candidate that is cut at ``limit``.

    Lengths are taken as exponential with mean ``step_tokens`` before the cut: the end of a step is equally likely at
    each token. Real steps have a heavier tail (``docs/performance.md``).
    """
    return step_tokens * -math.expm1(-limit / step_tokens)


def expected_longest(step_tokens: float, limit: int, n: int) -> float:
    """Return the expected tokens of the longest of n candidates: the decode passes of a step.

    The integral of 1 - (1 - exp(-x / m))^n from 0 to the limit. Without a limit it is m (1 + 1/2 + ... + 1/n).
    """
    reached = -math.expm1(-limit / step_tokens)
    return step_tokens * sum(reached**k / k for k in range(1, n + 1))


def expected_shortest(step_tokens: float, limit: int, n: int) -> float:
    """Return the expected tokens of the shortest of n candidates: it is exponential with mean ``step_tokens`` / n."""
    return expected_length(step_tokens / n, limit)
