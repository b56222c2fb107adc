"""Guided Speculative Inference: one step of Algorithm 1 (GSI paper, lines 3 to 13). The line numbers are the paper's.

Draft n candidates and score each under the target and the PRM; select one by its tilted reward; keep it if that
reaches u, else let the target write the step anew.
"""

from gsi.algorithm.acceptance import is_accepted
from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accepted, draw, propose, resampled
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    """Make the step that follows ``trajectory`` by Algorithm 1. ``seed`` is the job's."""
    drafted = await propose(Source.DRAFT, trajectory, params, ports, seed, likelihoods=True)  # lines 3, 4
    tilted = drafted.tilted_rewards(params.beta)
    drafted = draw(drafted, tilted, params, trajectory, seed)  # line 5
    if is_accepted(tilted[drafted.drawn], params.acceptance_threshold):  # line 6
        return accepted(trajectory, drafted, tilted)  # line 7
    return await resampled(trajectory, drafted, params, ports, seed, tilted)  # lines 9 to 12


async def run_step_without_rejection(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    """Keep whatever lines 3 to 5 select: the policy of Theorem 1 (section 3, tilted soft best-of-n)."""
    drafted = await propose(Source.DRAFT, trajectory, params, ports, seed, likelihoods=True)
    tilted = drafted.tilted_rewards(params.beta)
    return accepted(trajectory, draw(drafted, tilted, params, trajectory, seed), tilted)
