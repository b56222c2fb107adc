"""Arbitrage: a router says before the target is asked whether its step would be better (Maheswaran et al., 2025).

With y_d the draft's step, y_t the target's and s the reward of a step, the target's advantage is

    Delta = s(y_t) - s(y_d).

The paper's oracle writes both steps and keeps the target's if Delta > 0. Its router predicts, from the draft's step
alone, the probability p that Delta is large enough, and the target writes the step if p > tau.
"""

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.method import Method, lift, written_by
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accept, replace_draft, resample, soft_best_of_n
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import NewStep
from gsi.algorithm.router import describe_step


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Make the step that follows ``trajectory``: the draft's, unless the router expects a better one. ``seed``: job."""
    drafted = await soft_best_of_n(Source.DRAFT, trajectory, params, ports, seed)
    if predict_advantage(trajectory, drafted, params) > params.router_threshold:
        return await resample(trajectory, drafted, params, ports, seed)
    return accept(trajectory, drafted)


def predict_advantage(trajectory: Trajectory, drafted: Proposal, params: Params) -> float:
    """Return the router's p for the drawn candidate; infinite if the PRM gave it no number, so that the target writes.

    A step without a reward ranks below every other, whatever the router has learned.
    """
    features = describe_step(trajectory, drafted.candidates, drafted.rewards, drafted.drawn)
    return float("inf") if features is None else params.router.probability(features)


async def run_oracle_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Let both models write the step, and keep the one with the higher reward; the draft's, if they are equal."""
    drafted = await soft_best_of_n(Source.DRAFT, trajectory, params, ports, seed)
    written = await soft_best_of_n(Source.TARGET, trajectory, params, ports, seed)
    if written.rewards[written.drawn] > drafted.rewards[drafted.drawn]:
        return replace_draft(trajectory, drafted, written)
    return accept(trajectory, drafted, others=(written,))


ARBITRAGE = Method(
    name="arbitrage",
    summary=(
        "a router predicts from the draft's step and its reward whether the target's would be better; "
        "if that is likelier than tau, the target writes the step"
    ),
    source="Arbitrage, arXiv 2512.05033",
    make_round=lift(run_step),
    writers=written_by(Source.DRAFT, Source.TARGET),
    can_reject=True,
    asks_router=True,
    parameters=("n", "n_target", "beta", "resample", "router_threshold", "n_rule"),
)

ARBITRAGE_ORACLE = Method(
    name="arbitrage-oracle",
    summary="draft and target both write the step, and the higher reward wins: the upper bound of `arbitrage`",
    source="Arbitrage, arXiv 2512.05033 (the oracle)",
    make_round=lift(run_oracle_step),
    writers=written_by(Source.DRAFT, Source.TARGET),
    can_reject=True,
    parameters=("n", "n_target", "beta", "resample", "n_rule"),
)
