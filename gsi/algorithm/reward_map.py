"""Maps from the number that a reward model gives to the reward that a method sees.

A process reward model gives probabilities, which need no map. An outcome reward model (a sequence classifier such as
Skywork-Reward) gives any real number: a job maps it to [0, 1], cuts it at a threshold, or takes it raw, as RSD does
with delta = 0 (RSD paper, section 4). NaN stays NaN, which ranks below every number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gsi.algorithm.weighting import logistic


class RewardMap(Protocol):
    """A frozen dataclass whose fields, all numbers, are what a job may set."""

    def reward(self, raw: float) -> float:
        """Return the reward of a raw score."""
        ...


@dataclass(frozen=True, slots=True)
class Raw:
    """r = s."""

    def reward(self, raw: float) -> float:
        return raw


@dataclass(frozen=True, slots=True)
class LogisticMap:
    """r = 1 / (1 + exp(-(s - center) / scale)): by center 0 and scale 1 the Bradley-Terry probability against 0."""

    center: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self.center, self.scale)

    def reward(self, raw: float) -> float:
        return raw if math.isnan(raw) else logistic((raw - self.center) / self.scale)


@dataclass(frozen=True, slots=True)
class Linear:
    """r = (s - center) / scale, clipped to [0, 1]."""

    center: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self.center, self.scale)

    def reward(self, raw: float) -> float:
        return raw if math.isnan(raw) else min(1.0, max(0.0, (raw - self.center) / self.scale))


@dataclass(frozen=True, slots=True)
class Threshold:
    """r = 1 if s >= center else 0."""

    center: float = 0.0

    def __post_init__(self) -> None:
        _check_scale(self.center, 1.0)

    def reward(self, raw: float) -> float:
        return raw if math.isnan(raw) else float(raw >= self.center)


REWARD_MAPS: Mapping[str, type[RewardMap]] = {
    "raw": Raw,
    "logistic": LogisticMap,
    "linear": Linear,
    "threshold": Threshold,
}


def _check_scale(center: float, scale: float) -> None:
    if not math.isfinite(center):
        raise ValueError(f"center is {center:g}; allowed: a finite number")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale:g}; allowed: a finite number above 0")
