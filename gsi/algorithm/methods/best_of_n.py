"""Best-of-n on one model: soft (GSI paper, section 2); hard, over steps or over whole responses (RSD, section 3)."""

from collections.abc import Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Population, Trajectory
from gsi.algorithm.method import Method, Unfinished, lift
from gsi.algorithm.methods.responses import start_with_n, write_rated
from gsi.algorithm.params import Params, Scope
from gsi.algorithm.parts import accept, choose_highest_score, propose, soft_best_of_n
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import NewStep, Round


async def run_soft_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Draw a candidate with probability softmax(beta * r). The other model is not asked."""
    return accept(trajectory, await soft_best_of_n(params.role, trajectory, params, ports, seed))


async def run_hard_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Keep a candidate of the highest reward, the first of them."""
    proposal = await propose(params.role, trajectory, params, ports, seed)
    best = proposal.rewards.index(max(proposal.rewards))
    return accept(trajectory, replace(proposal, selected=best))


def start(prompt: Trajectory, params: Params) -> Population:
    """Return n trajectories if the job chooses among whole responses, else one."""
    return start_with_n(prompt, params) if params.scope is Scope.RESPONSES else (prompt,)


async def make_round(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every response grow, or the only trajectory by its best candidate."""
    is_of_responses = growing[0].params.scope is Scope.RESPONSES
    make = write_rated if is_of_responses else lift(run_hard_step)
    return await make(population, growing, ports, seed)


SOFT_BEST_OF_N = Method(
    name="soft-best-of-n",
    summary="one model writes n candidates a step, and one is drawn with probability softmax(beta * reward)",
    source="GSI, section 2",
    make_round=lift(run_soft_step),
    parameters=("n", "n_target", "beta", "role"),
)

BEST_OF_N = Method(
    name="best-of-n",
    summary="one model writes n candidates, and the highest reward wins: in each step, or among whole responses",
    source='RSD, section 3 ("process Best-of-N" and "Best-of-N")',
    make_round=make_round,
    start=start,
    choose=choose_highest_score,
    parameters=("n", "role", "scope", "aggregate"),
)
