"""Acceptance rules of RSD: a weighting function says with what probability the draft's step is kept.

Source: Liao et al., *Reward-Guided Speculative Decoding for Efficient LLM Reasoning* (2025), Algorithm 2, Table 1,
Proposition 2.3 and section 2.4. A new rule is one class here and one line in ``WEIGHTINGS``: ``docs/methods.md`` shows
it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable


class Weighting(Protocol):
    """An acceptance rule: a frozen dataclass whose fields, all numbers, a job may set.

    Its ``__post_init__`` raises ValueError for a value that is not allowed, and says which values are.
    """

    needs_log_ratio: ClassVar[bool]  # whether the target must score the draft's candidates

    def weight(self, reward: float, log_ratio: float) -> float:
        """Return w in [0, 1] of a candidate with this reward and log(pi_B / pi_S) in nats.

        The reward is -inf where the PRM gave no number. ``log_ratio`` is NaN unless the rule needs it.
        """
        ...


@runtime_checkable
class DependsOnContext(Protocol):
    """A weighting that is another one after each prefix: what is known of the prefix is the step's candidates."""

    def in_context(self, rewards: Sequence[float], law: Sequence[float]) -> Weighting:
        """Return the rule for one step, from its candidates' rewards and the law by which one of them is drawn."""
        ...


def in_context(rule: Weighting, rewards: Sequence[float], law: Sequence[float]) -> Weighting:
    """Return ``rule`` for one step: itself, unless it depends on the context.

    ``rewards``: of the draft's candidates, -inf where the PRM gave no number. ``law``: the probability that soft
    best-of-n draws each of them, in the same order.
    """
    return rule.in_context(rewards, law) if isinstance(rule, DependsOnContext) else rule


def accepts(weight: float, uniform: float) -> bool:
    """Return whether a candidate of this weight is kept (RSD, Algorithm 2), at ``uniform`` in [0, 1).

    The paper draws only for weights between 0 and 1, which is the same rule.
    """
    return uniform < weight


@dataclass(frozen=True, slots=True)
class Constant:
    """w = p: a coin toss that ignores the reward."""

    p: float = 0.5
    needs_log_ratio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check("p", self.p, 0 <= self.p <= 1, "a number from 0 to 1")

    def weight(self, reward: float, log_ratio: float) -> float:
        return self.p


@dataclass(frozen=True, slots=True)
class Binary:
    """w = 1 if r >= delta else 0: the papers' choice, optimal under a sampling budget (RSD, Proposition 2.3)."""

    delta: float = 0.7
    needs_log_ratio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check("delta", self.delta, math.isfinite(self.delta), "a finite number")

    def weight(self, reward: float, log_ratio: float) -> float:
        return 1.0 if reward >= self.delta else 0.0


@dataclass(frozen=True, slots=True)
class Clip:
    """w = min(1, max(0, r))."""

    needs_log_ratio: ClassVar[bool] = False

    def weight(self, reward: float, log_ratio: float) -> float:
        return min(1.0, max(0.0, reward))


@dataclass(frozen=True, slots=True)
class Sigmoidal:
    """w = max(0, r / (1 + r)), read as 0 for r <= 0, where the printed formula would leave [0, 1] below r = -1."""

    needs_log_ratio: ClassVar[bool] = False

    def weight(self, reward: float, log_ratio: float) -> float:
        return reward / (1 + reward) if reward > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Logistic:
    """w = 1 / (1 + exp(-alpha (r - delta)))."""

    alpha: float = 10.0
    delta: float = 0.7
    needs_log_ratio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check("alpha", self.alpha, 0 < self.alpha < math.inf, "a finite number above 0")
        _check("delta", self.delta, math.isfinite(self.delta), "a finite number")

    def weight(self, reward: float, log_ratio: float) -> float:
        return logistic(self.alpha * (reward - self.delta))


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """w = min(1, alpha pi_B / pi_S): speculative decoding's test on a whole step (RSD, section 2.4)."""

    alpha: float = 1.0
    needs_log_ratio: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check("alpha", self.alpha, 0 < self.alpha < math.inf, "a finite number above 0")

    def weight(self, reward: float, log_ratio: float) -> float:
        return math.exp(min(0.0, math.log(self.alpha) + log_ratio))


@dataclass(frozen=True, slots=True)
class Hybrid:
    """w = min(1, beta r pi_B / pi_S), 0 for r <= 0 (RSD, section 2.4). This beta is the rule's own, not the job's."""

    beta: float = 1.0
    needs_log_ratio: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check("beta", self.beta, 0 < self.beta < math.inf, "a finite number above 0")

    def weight(self, reward: float, log_ratio: float) -> float:
        if reward <= 0:
            return 0.0
        return math.exp(min(0.0, math.log(self.beta) + math.log(reward) + log_ratio))


@dataclass(frozen=True, slots=True)
class NormalisedHybrid:
    """w = q / (1 + q) with q = e^{alpha (r - delta)} pi_B / pi_S: both quantities, differentiable (RSD, section 2.4).

    The paper prints no formula. Here the reward enters as in Table 1's logistic function, and the ratio as in its
    sigmoidal transformation: their odds are multiplied. Where the models agree, w is the weighting ``logistic``.
    """

    alpha: float = 10.0
    delta: float = 0.7
    needs_log_ratio: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check("alpha", self.alpha, 0 < self.alpha < math.inf, "a finite number above 0")
        _check("delta", self.delta, math.isfinite(self.delta), "a finite number")

    def weight(self, reward: float, log_ratio: float) -> float:
        if -math.inf in (reward, log_ratio):
            return 0.0  # the sum below would be NaN where the other is too large for a double
        return logistic(self.alpha * (reward - self.delta) + log_ratio)


@dataclass(frozen=True, slots=True)
class Budget:
    """w = 1 if r >= delta(z) else 0, and delta(z) rejects the share gamma after each prefix z (RSD, Proposition 2.3).

    The candidates' rewards are what is known of the prefix. The draw at delta(z) itself is kept with what is left of
    the budget, so that exactly gamma is spent: a threshold alone spends less, and with one candidate nothing.
    """

    gamma: float = 0.1  # nu, the share of steps that the target writes
    needs_log_ratio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check("gamma", self.gamma, 0 <= self.gamma <= 1, "a number from 0 to 1")

    def weight(self, reward: float, log_ratio: float) -> float:
        """Return w of a candidate that stands alone, so that nothing is known of its prefix: 1 - gamma."""
        return 1 - self.gamma if reward > -math.inf else 0.0

    def in_context(self, rewards: Sequence[float], law: Sequence[float]) -> Weighting:
        """Return the threshold: the lowest rewards are rejected until their draws have used up gamma."""
        left = self.gamma
        for delta in sorted(set(rewards)):
            mass = math.fsum(p for reward, p in zip(rewards, law, strict=True) if reward == delta)
            if left < mass:
                return _Threshold(delta, 1 - left / mass)
            left -= mass
        return _Threshold(math.inf, 0.0)  # gamma = 1, or all but a rounding error of it


@dataclass(frozen=True, slots=True)
class _Threshold:
    """w = 1 above delta, ``at_delta`` at it, 0 below."""

    delta: float
    at_delta: float
    needs_log_ratio: ClassVar[bool] = False

    def weight(self, reward: float, log_ratio: float) -> float:
        if reward == self.delta:
            return self.at_delta if reward > -math.inf else 0.0
        return 1.0 if reward > self.delta else 0.0


WEIGHTINGS: Mapping[str, type[Weighting]] = {
    "constant": Constant,
    "binary": Binary,
    "clip": Clip,
    "sigmoidal": Sigmoidal,
    "logistic": Logistic,
    "likelihood-ratio": LikelihoodRatio,
    "hybrid": Hybrid,
    "normalised-hybrid": NormalisedHybrid,
    "budget": Budget,
}


def logistic(value: float) -> float:
    """Return 1 / (1 + exp(-value)) without overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


def _check(name: str, value: float, is_allowed: bool, allowed: str) -> None:
    if not is_allowed:
        raise ValueError(f"{name} is {value:g}; allowed: {allowed}")
