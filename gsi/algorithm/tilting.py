"""The tilted reward (GSI paper, section 3; line 4 of Algorithm 1).

    r~(x, y) = r(x, y) + (log pi_B(y | x) - log pi_S(y | x)) / beta

Sampling from the draft pi_S and weighing by exp(beta * r~) is sampling from the target pi_B weighed by
exp(beta * r). Rewards and tilted rewards share one scale; likelihoods are in nats.
"""

import math


def log_ratio(log_likelihood_target: float, log_likelihood_draft: float) -> float:
    """Return log(pi_B / pi_S) in nats; -inf where the target would never write the candidate.

    Raises ValueError for a likelihood above 1, NaN, or a draft likelihood that is not finite (it was sampled).
    """
    if not math.isfinite(log_likelihood_draft):
        raise ValueError(f"the draft's log-likelihood must be finite; got {log_likelihood_draft}")
    if math.isnan(log_likelihood_target) or log_likelihood_target > 1e-6:  # rounding may pass 0 by a hair
        raise ValueError(f"the target's log-likelihood must be at most 0; got {log_likelihood_target}")
    return log_likelihood_target - log_likelihood_draft


def tilted_reward(reward: float, log_ratio: float, beta: float) -> float:
    """Return r + log_ratio / beta; -inf where the reward is NaN or the log ratio is -inf."""
    return rankable(reward) + log_ratio / beta


def rankable(reward: float) -> float:
    """Return the reward, or -inf for NaN, which ranks below every other reward."""
    return -math.inf if math.isnan(reward) else reward
