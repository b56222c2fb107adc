"""Best-of-n on one model, step by step: soft (GSI paper, section 2) and hard ("process best-of-n", RSD section 3)."""

from dataclasses import replace

from gsi.algorithm.candidates import Trajectory
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accepted, propose, soft_best_of_n
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round


async def soft(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    """Draw a candidate with probability softmax(beta * r). The other model is not asked."""
    return accepted(trajectory, await soft_best_of_n(params.role, trajectory, params, ports, seed))


async def hard(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    """Keep a candidate of the highest reward, the first of them."""
    proposal = await propose(params.role, trajectory, params, ports, seed)
    best = proposal.rewards.index(max(proposal.rewards))
    return accepted(trajectory, replace(proposal, selected=best))
