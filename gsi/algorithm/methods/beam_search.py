"""Beam search guided by the PRM, on one model (RSD paper, Table 3; Chen et al., 2024a, as cited there).

In each round every unfinished beam gets ``num_expansions`` candidates. Of all candidates and the finished beams, the
``num_beams`` with the highest score are kept. A single trajectory, such as the prompt, gets ``num_beams`` times as many
candidates, so that all rounds have the same number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gsi.algorithm.candidates import Branch, Population
from gsi.algorithm.method import Method, Unfinished, in_every_job
from gsi.algorithm.params import Params
from gsi.algorithm.parts import aggregate_rewards, build_step, choose_highest_score, propose, run_all, score
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class _Beam:
    """What may be kept: a beam with a new step, or a finished beam without a new step."""

    branch: Branch
    token_ids: tuple[int, ...]
    score: float


async def expand(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Make one round."""
    params = growing[0].params
    n = params.num_beams * params.num_expansions if len(population) == 1 else params.num_expansions

    async def write(one: Unfinished) -> Proposal:
        own_seed = derive_seed(seed, "beam", one.place)
        proposal = await propose(params.role, one.trajectory, one.params, ports, own_seed, n)
        return replace(proposal, parent=one.place)

    proposals = await run_all([write(one) for one in growing])
    beams = [*_finished(population, growing, params), *_candidates(growing, proposals, params)]
    different = {beam.token_ids: beam for beam in beams}  # equal texts have equal scores
    best = sorted(different.values(), key=lambda beam: -beam.score)[: params.num_beams]
    return Round(tuple(beam.branch for beam in best), tuple(proposals))


def _finished(population: Population, growing: Sequence[Unfinished], params: Params) -> Iterator[_Beam]:
    places = {one.place for one in growing}
    for place, trajectory in enumerate(population):
        if place not in places:
            yield _Beam(Branch(place, None), trajectory.token_ids, score(trajectory, params.aggregate))


def _candidates(growing: Sequence[Unfinished], proposals: Sequence[Proposal], params: Params) -> Iterator[_Beam]:
    for one, proposal in zip(growing, proposals, strict=True):
        rewards = [step.reward for step in one.trajectory.steps]
        for index, reward in enumerate(proposal.rewards):
            step = build_step(one.trajectory, replace(proposal, selected=index))
            token_ids = one.trajectory.token_ids + step.token_ids
            yield _Beam(Branch(one.place, step), token_ids, aggregate_rewards([*rewards, reward], params.aggregate))


BEAM_SEARCH = Method(
    name="beam-search",
    summary="keeps the best `beam_width` trajectories, and expands each `beam_expansion` times a round",
    source="RSD, section 3.2",
    make_round=expand,
    choose=choose_highest_score,
    is_search=in_every_job,
    parameters=("n", "beam_width", "beam_expansion", "role", "aggregate"),
)
