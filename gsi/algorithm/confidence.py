"""How sure a model was of what it wrote, by the likelihoods that come with its candidates.

The confidence of a step is the geometric mean of its tokens' probabilities under the model that wrote it, from 0 to 1:
its log-likelihood is all that a candidate has of its tokens. DeepConf (arXiv 2508.15260) takes the mean of
-log P(j) over the k likeliest tokens j of each place instead, which rises with the model's certainty as well.
"""

import math
from collections.abc import Sequence

from gsi.algorithm.candidates import Source, Step, Trajectory


def step_confidence(step: Step) -> float:
    """Return the confidence of a step. Raises ValueError for a step without the likelihood of its own model."""
    is_of_draft = step.source is Source.DRAFT
    log_likelihood = step.log_likelihood_draft if is_of_draft else step.log_likelihood_target
    if log_likelihood is None:
        raise ValueError(f"step {step.index} has no likelihood of the {step.source} that wrote it")
    return math.exp(min(0.0, log_likelihood) / len(step.token_ids))


def lowest_confidence(trajectory: Trajectory) -> float:
    """Return the lowest confidence of its steps; 1 before the first. It never rises as the trajectory grows."""
    return min(map(step_confidence, trajectory.steps), default=1.0)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which ``percent`` of 100 lie, between two neighbours by linear interpolation."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])
