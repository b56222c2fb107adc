"""Best-of-n on one model, over steps or over whole responses: soft (GSI paper, section 2) and hard (RSD, section 3)."""

from dataclasses import replace

from gsi.algorithm.candidates import Population, Trajectory
from gsi.algorithm.method import Answers, Method
from gsi.algorithm.methods.responses import (
    by_scope,
    find_begun,
    is_over_responses,
    pick_in_parts,
    start_by_scope,
    write_scored,
)
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accept, choose_highest_score, propose, score, soft_best_of_n
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import NewStep
from gsi.algorithm.seeds import uniform
from gsi.algorithm.soft_best_of_n import select


async def run_soft_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Draw a candidate with probability softmax(beta * r). The other model is not asked."""
    return accept(trajectory, await soft_best_of_n(params.role, trajectory, params, ports, seed))


async def run_hard_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Keep a candidate of the highest reward, the first of them."""
    proposal = await propose(params.role, trajectory, params, ports, seed)
    best = proposal.rewards.index(max(proposal.rewards))
    return accept(trajectory, replace(proposal, selected=best))


async def draw_response(population: Population, params: Params, _answers: Answers, seed: int) -> int:
    """Draw a response with probability softmax(beta * score)."""
    scores = [score(trajectory, params.aggregate) for trajectory in find_begun(population)]
    return select(scores, params.beta, uniform(seed, "response", "select"))


async def choose_best_response(population: Population, params: Params, answers: Answers, seed: int) -> int:
    """Return the place of the response with the highest score, the first of them."""
    return await choose_highest_score(find_begun(population), params, answers, seed)


SOFT_BEST_OF_N = Method(
    name="soft-best-of-n",
    summary=(
        "one model writes n candidates, and one is drawn with probability softmax(beta * reward): "
        "in each step, or among whole responses"
    ),
    source="GSI, section 2",
    make_round=by_scope(run_soft_step, write_scored),
    start=start_by_scope,
    pick=pick_in_parts,
    choose=draw_response,
    is_search=is_over_responses,
    parameters=("n", "n_target", "beta", "role", "scope", "aggregate", "n_rule"),
)

BEST_OF_N = Method(
    name="best-of-n",
    summary="one model writes n candidates, and the highest reward wins: in each step, or among whole responses",
    source='RSD, section 3 ("process Best-of-N" and "Best-of-N")',
    make_round=by_scope(run_hard_step, write_scored),
    start=start_by_scope,
    pick=pick_in_parts,
    choose=choose_best_response,
    is_search=is_over_responses,
    parameters=("n", "role", "scope", "aggregate", "n_rule"),
)
