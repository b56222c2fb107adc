"""One model alone, one candidate a step; no reward is asked for. Greedy at temperature 0.

``speculative-decoding`` is the target alone, too: its engine lets a draft of its own write ahead, token by token, and
verifies that (RSD paper, section 3, "SD"); its law is the target's.
"""

from dataclasses import replace

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accepted, propose
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round


async def draft(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    """Let the draft write the step."""
    return await _alone(Source.DRAFT, trajectory, params, ports, seed)


async def target(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    """Let the target write the step."""
    return await _alone(Source.TARGET, trajectory, params, ports, seed)


async def _alone(source: Source, trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Round:
    proposal = await propose(source, trajectory, params, ports, seed, 1, rewards=False)
    return accepted(trajectory, replace(proposal, selected=0))
