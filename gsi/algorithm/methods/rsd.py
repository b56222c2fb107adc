"""Reward-guided speculative decoding (RSD paper, Algorithms 1 and 2).

The draft's step is kept with the probability that a weighting function gives it, else the target writes the step. With
n above 1 soft best-of-n selects the draft's step and the target's, as in the GSI paper's comparison (section 4).
"""

from math import nan

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accepted, draw, propose, resampled
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import uniform
from gsi.algorithm.weighting import accepts


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    """Make the step that follows ``trajectory``. ``seed`` is the job's."""
    rule = params.weighting
    drafted = await propose(Source.DRAFT, trajectory, params, ports, seed, likelihoods=rule.needs_log_ratio)
    drafted = draw(drafted, drafted.rewards, params, trajectory, seed)
    log_ratio = drafted.log_ratios[drafted.drawn] if rule.needs_log_ratio else nan
    weight = rule.weight(drafted.rewards[drafted.drawn], log_ratio)
    if accepts(weight, uniform(seed, len(trajectory.steps), Source.DRAFT, "accept")):
        return accepted(trajectory, drafted)
    return await resampled(trajectory, drafted, params, ports, seed)
