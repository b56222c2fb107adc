"""The router of Arbitrage: how likely is it that the target's step would be better than the draft's?

Source: Maheswaran et al., *Arbitrage: Efficient Reasoning via Advantage-Aware Speculation* (2025). The paper's router
is a language model that reads texts. This one reads the numbers that are known when the draft's step has been rated:
it needs no model of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gsi.algorithm.candidates import Candidate, FinishReason, Trajectory
from gsi.algorithm.weighting import logistic

Features = Mapping[str, float]

# By name: what a router may read of the draft's step. Rewards are after the reward map.
FEATURES: Mapping[str, str] = {
    "reward": "reward of the draft's step",
    "best_reward": "highest reward among the draft's candidates",
    "mean_reward": "mean reward of the draft's candidates",
    "reward_lead": "reward of the draft's step above the best of the other candidates; 0 if there is no other",
    "mean_log_likelihood": "nats a token of the draft's step, under the draft",
    "log_likelihood": "nats of the draft's step, under the draft",
    "log_tokens": "natural logarithm of the step's number of tokens",
    "log_place": "natural logarithm of the step's place in the answer, from 1",
    "previous_reward": "reward of the step before; of this step, if it is the first",
    "least_reward": "lowest reward of this step and those before",
    "target_share": "share of the steps before that the target wrote; 0 for the first step",
    "is_end": "1 if the draft's step ends the answer, else 0",
    "is_cut": "1 if the draft's step reached a token limit, else 0",
}


class Router(Protocol):
    """Predicts the target's advantage. A test gives one of its own."""

    def probability(self, features: Features) -> float:
        """Return the probability, in [0, 1], that the target's step is better than the draft's."""
        ...


@dataclass(frozen=True, slots=True)
class RewardRouter:
    """p = 1 - r, cut to [0, 1]: what a router says that has learned nothing. A better step has 1 - r left to gain."""

    def probability(self, features: Features) -> float:
        return 1 - min(1.0, max(0.0, features["reward"]))


@dataclass(frozen=True, slots=True)
class LogisticRouter:
    """p = 1 / (1 + exp(-(b + sum of w_i (x_i - mean_i) / scale_i))): what ``gsi router train`` learns.

    ``features`` names the x_i, from ``FEATURES``; the other lists are in its order. Raises ValueError for a name that
    is unknown, lists of other lengths, or a number that is not finite.
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def __post_init__(self) -> None:
        if unknown := [name for name in self.features if name not in FEATURES]:
            raise ValueError(f'features: "{unknown[0]}" is not allowed; allowed: {", ".join(FEATURES)}')
        for name in ("means", "scales", "weights"):
            numbers: Sequence[float] = getattr(self, name)
            if len(numbers) != len(self.features) or not all(map(math.isfinite, numbers)):
                raise ValueError(f"{name}: allowed: a finite number for each of {len(self.features)} features")
        if not all(scale > 0 for scale in self.scales):
            raise ValueError("scales: allowed: numbers above 0")
        if not math.isfinite(self.intercept):
            raise ValueError(f"intercept is {self.intercept:g}; allowed: a finite number")

    def probability(self, features: Features) -> float:
        terms = zip(self.features, self.means, self.scales, self.weights, strict=True)
        return logistic(self.intercept + math.fsum(w * (features[x] - mean) / scale for x, mean, scale, w in terms))


def describe_step(
    trajectory: Trajectory, candidates: Sequence[Candidate], rewards: Sequence[float], drawn: int
) -> Features | None:
    """Return the features of the draft's step, the candidate ``drawn``; None if its reward is not a finite number.

    ``rewards`` are those of the draft's candidates, in their order. Rewards of others that are not finite do not count.
    Training and the method ask this function, so that both see the same numbers.
    """
    reward, candidate = rewards[drawn], candidates[drawn]
    if not math.isfinite(reward):
        return None
    rated = [value for value in rewards if math.isfinite(value)]
    others = [value for index, value in enumerate(rewards) if index != drawn and math.isfinite(value)]
    before = [step.reward for step in trajectory.steps if math.isfinite(step.reward)]
    by_target = [step.source == "target" for step in trajectory.steps]
    num_tokens = len(candidate.token_ids)
    return {
        "reward": reward,
        "best_reward": max(rated),
        "mean_reward": math.fsum(rated) / len(rated),
        "reward_lead": reward - max(others) if others else 0.0,
        "mean_log_likelihood": candidate.log_likelihood / num_tokens,
        "log_likelihood": candidate.log_likelihood,
        "log_tokens": math.log(num_tokens),
        "log_place": math.log(len(trajectory.steps) + 1),
        "previous_reward": before[-1] if before else reward,
        "least_reward": min([reward, *before]),
        "target_share": sum(by_target) / len(by_target) if by_target else 0.0,
        "is_end": float(candidate.finish_reason is FinishReason.EOS),
        "is_cut": float(candidate.finish_reason is FinishReason.LENGTH),
    }
