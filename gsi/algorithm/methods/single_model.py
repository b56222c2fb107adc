"""One model alone, one candidate a step; no reward is asked for. Greedy at temperature 0.

``speculative-decoding`` is also the target alone: its engine has its own draft model, which writes tokens ahead for the
target to verify (RSD paper, section 3, "SD"). The distribution is the target's.
"""

from dataclasses import replace

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.method import Method, in_no_job, lift, written_by
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accept, propose
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import NewStep


async def run_draft_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Let the draft write the step."""
    return await _write_alone(Source.DRAFT, trajectory, params, ports, seed)


async def run_target_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Let the target write the step."""
    return await _write_alone(Source.TARGET, trajectory, params, ports, seed)


async def _write_alone(source: Source, trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    proposal = await propose(source, trajectory, params, ports, seed, 1, rewards=False)
    return accept(trajectory, replace(proposal, selected=0))


DRAFT = Method(
    name="draft",
    summary="the draft alone writes one candidate a step",
    source="RSD, Table B.1",
    make_round=lift(run_draft_step),
    writers=written_by(Source.DRAFT),
    asks_rewards=in_no_job,
)

TARGET = Method(
    name="target",
    summary="the target alone writes one candidate a step",
    source="RSD, Table 2",
    make_round=lift(run_target_step),
    writers=written_by(Source.TARGET),
    asks_rewards=in_no_job,
)

SPECULATIVE_DECODING = Method(
    name="speculative-decoding",
    summary="the target alone, whose engine must decode speculatively",
    source='RSD, section 3 ("SD")',
    make_round=lift(run_target_step),
    writers=written_by(Source.TARGET),
    asks_rewards=in_no_job,
    is_speculative=True,
)
