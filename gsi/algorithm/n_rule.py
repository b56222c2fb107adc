"""Adaptive n: when a model is asked for no more candidates of a step, because another would not pay.

Candidates are asked for in parts (``part_ends``), and a rule decides between two parts, by the rewards of all
candidates that there are, in the order of their indices. So the number of candidates is a function of the seed,
whatever finishes first. What that does to a method's law: ``docs/methods.md``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

NUM_PARTS = (4, 2, 1)  # a part ends after n/4, n/2 and n candidates: each further part is as large as all before it
LEAST_FOR_STUDENT = 3  # rewards: with fewer, the expected gain by Student's law is infinite


def part_ends(n: int) -> list[int]:
    """Return how many candidates there are after each part."""
    return sorted({-(-n // parts) for parts in NUM_PARTS})


class NRule(Protocol):
    """A frozen dataclass whose fields, all numbers, are what a job may set."""

    def is_enough(self, rewards: Sequence[float]) -> bool:
        """Return whether these rewards, -inf for none, are enough."""
        ...


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """Enough once a reward reaches the level: Weitzman's rule for Pandora's boxes of one known law."""

    level: float = 1.0

    def __post_init__(self) -> None:
        _check("level", self.level, math.isfinite(self.level), "a finite number")

    def is_enough(self, rewards: Sequence[float]) -> bool:
        return max(rewards) >= self.level


@dataclass(frozen=True, slots=True)
class PandoraRule:
    """Enough once the best reward reaches an upper bound of the fair-cap value: E[(r - tau)+] = cost.

    Rewards are at most 1. With k of them the probability of a reward above x is at most the observed share plus
    sqrt(ln(1 / delta) / 2k), but for a chance of delta (Dvoretzky, Kiefer, Wolfowitz, Massart). So the expected gain of
    another is at most (1 - best) times that, as no reward above the best was observed.
    """

    cost: float = 0.01
    delta: float = 0.05

    def __post_init__(self) -> None:
        _check_cost(self.cost)
        _check("delta", self.delta, 0 < self.delta <= 0.5, "a number above 0, and at most 0.5")

    def is_enough(self, rewards: Sequence[float]) -> bool:
        share = min(1.0, math.sqrt(math.log(1 / self.delta) / (2 * len(rewards))))
        return (1 - max(rewards)) * share <= self.cost


@dataclass(frozen=True, slots=True)
class BeaconRule:
    """Enough once the expected gain of another reward is at most the cost, where rewards have an unknown normal law.

    By the posterior after k rewards (of the prior that says nothing) the next one has Student's law of k - 1 degrees,
    around their mean, with their standard deviation times sqrt(1 + 1/k).
    """

    cost: float = 0.01

    def __post_init__(self) -> None:
        _check_cost(self.cost)

    def is_enough(self, rewards: Sequence[float]) -> bool:
        numbers = [reward for reward in rewards if math.isfinite(reward)]
        k = len(numbers)
        if k < LEAST_FOR_STUDENT:
            return False
        if min(numbers) == max(numbers):
            return True
        mean = math.fsum(numbers) / k
        variance = math.fsum((reward - mean) ** 2 for reward in numbers) / (k - 1)
        scale = math.sqrt(variance * (1 + 1 / k))
        return scale * expected_excess((max(numbers) - mean) / scale, k - 1) <= self.cost


N_RULES: Mapping[str, type[NRule]] = {
    "threshold": ThresholdRule,
    "pandora": PandoraRule,
    "beacon": BeaconRule,
}


def expected_excess(level: float, degrees: int) -> float:
    """Return E[(T - level)+] for a level of at least 0, where T has Student's law of 2 degrees of freedom or more."""
    log_constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(math.pi * degrees) / 2
    density = math.exp(log_constant - (degrees + 1) / 2 * math.log1p(level**2 / degrees))
    excess = (degrees + level**2) / (degrees - 1) * density - level * _upper_tail(level, degrees)
    return max(0.0, excess)  # rounding may pass 0 by a hair, far out


def _upper_tail(level: float, degrees: int) -> float:
    """Return P(T > level) by the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan2(level, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2
    term, total = (cosine if is_odd else 1.0), 0.0
    for power in range(1 + is_odd, degrees, 2):
        total += term
        term *= power / (power + 1) * cosine**2
    inside = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    return (1 - inside) / 2


def _check_cost(cost: float) -> None:
    _check("cost", cost, 0 <= cost < math.inf, "a finite number of at least 0")


def _check(name: str, value: float, is_allowed: bool, allowed: str) -> None:
    if not is_allowed:
        raise ValueError(f"{name} is {value:g}; allowed: {allowed}")
