"""Diverse verifier tree search, on one model (Beeching et al., 2024, *Scaling Test-Time Compute with Open Models*).

The n candidates of a round belong to ``num_beams`` subtrees with ``num_expansions`` each. A subtree keeps its own best
candidate, whatever the others have: beam search would let one subtree take the places of all. The answer is the
trajectory with the highest score.
"""

from collections.abc import Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Branch, Population, Trajectory
from gsi.algorithm.method import Method, Unfinished, in_every_job
from gsi.algorithm.params import Params
from gsi.algorithm.parts import aggregate_rewards, build_step, choose_highest_score, propose, run_all
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import derive_seed


def start(prompt: Trajectory, params: Params) -> Population:
    """Return a trajectory for each subtree."""
    return (prompt,) * params.num_beams


async def expand(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every unfinished subtree grow by the best of its own candidates, the first of them."""

    async def write(one: Unfinished) -> Proposal:
        params, own_seed = one.params, derive_seed(seed, "subtree", one.place)
        proposal = await propose(params.role, one.trajectory, params, ports, own_seed, params.num_expansions)
        return replace(proposal, parent=one.place)

    proposals = await run_all([write(one) for one in growing])
    branches = [Branch(place, None) for place in range(len(population))]
    for one, proposal in zip(growing, proposals, strict=True):
        best = replace(proposal, selected=_find_best(one, proposal))
        branches[one.place] = Branch(one.place, build_step(one.trajectory, best))
    return Round(tuple(branches), tuple(proposals))


def _find_best(one: Unfinished, proposal: Proposal) -> int:
    rewards = [step.reward for step in one.trajectory.steps]
    scores = [aggregate_rewards([*rewards, reward], one.params.aggregate) for reward in proposal.rewards]
    return scores.index(max(scores))


DVTS = Method(
    name="dvts",
    summary="`beam_width` subtrees that do not compete, each with the best of its `beam_expansion` candidates a round",
    source="Beeching et al., Scaling Test-Time Compute with Open Models (2024)",
    make_round=expand,
    start=start,
    choose=choose_highest_score,
    is_search=in_every_job,
    parameters=("n", "beam_width", "beam_expansion", "role", "aggregate"),
)
