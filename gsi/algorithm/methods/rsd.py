"""Reward-guided speculative decoding (RSD paper, Algorithms 1 and 2).

The draft's step is kept with the probability that a weighting function gives it; otherwise the target writes the step.
With n above 1 soft best-of-n selects the draft's step and the target's, as in the GSI paper's comparison (section 4).
"""

from math import nan

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.method import Method, lift, written_by
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accept, draw, is_hopeless, propose, resample
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import NewStep
from gsi.algorithm.seeds import uniform
from gsi.algorithm.soft_best_of_n import probabilities
from gsi.algorithm.weighting import accepts, in_context


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Make the step that follows ``trajectory``. ``seed`` is the job's."""
    rule = params.weighting
    drafted = await propose(Source.DRAFT, trajectory, params, ports, seed, likelihoods=rule.needs_log_ratio)
    drafted = draw(drafted, drafted.rewards, params, trajectory, seed)
    if is_hopeless(drafted, params):
        return accept(trajectory, drafted)
    log_ratio = drafted.log_ratios[drafted.drawn] if rule.needs_log_ratio else nan
    rule = in_context(rule, drafted.rewards, probabilities(drafted.rewards, params.beta))
    weight = rule.weight(drafted.rewards[drafted.drawn], log_ratio)
    if accepts(weight, uniform(seed, len(trajectory.steps), Source.DRAFT, "accept")):
        return accept(trajectory, drafted)
    return await resample(trajectory, drafted, params, ports, seed)


def needs_log_ratio(params: Params) -> bool:
    """Return whether the job's weighting looks at likelihoods."""
    return params.weighting.needs_log_ratio


RSD = Method(
    name="rsd",
    summary=(
        "the draft's step is kept with the probability that a weighting gives it; "
        "otherwise the target writes the step. Three of the weightings ask the target for likelihoods"
    ),
    source="RSD, Algorithms 1 and 2; n above 1: GSI, section 4",
    make_round=lift(run_step),
    writers=written_by(Source.DRAFT, Source.TARGET),
    asks_likelihoods=needs_log_ratio,
    can_reject=True,
    parameters=("n", "n_target", "beta", "weighting", "resample", "preset", "n_rule"),
)
