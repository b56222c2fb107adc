"""Methods over n whole responses of one model: majority vote, and what best-of-n needs (RSD paper, section 3, Table 2).

The responses are written step by step at the same time, so that each stops, resumes and is recorded as any answer is.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Branch, Population, Trajectory
from gsi.algorithm.method import Answers, Method, Unfinished, in_no_job
from gsi.algorithm.params import Params
from gsi.algorithm.parts import build_step, propose, run_all
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import derive_seed


def start_with_n(prompt: Trajectory, params: Params) -> Population:
    """Return n trajectories that have only the prompt."""
    return (prompt,) * params.n


async def write_each(
    population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int, *, rewards: bool
) -> Round:
    """Let every unfinished response grow by one step. Responses that are still equal are written in one proposal."""
    groups: defaultdict[tuple[int, ...], list[Unfinished]] = defaultdict(list)
    for one in growing:
        groups[one.trajectory.token_ids].append(one)

    async def write(group: Sequence[Unfinished]) -> Proposal:
        first = group[0]
        own_seed = derive_seed(seed, "response", first.place)
        proposal = await propose(
            first.params.role, first.trajectory, first.params, ports, own_seed, len(group), rewards=rewards
        )
        return replace(proposal, parent=first.place)

    proposals = await run_all([write(group) for group in groups.values()])
    branches = [Branch(place, None) for place in range(len(population))]
    for proposal, group in zip(proposals, groups.values(), strict=True):
        for index, one in enumerate(group):
            branches[one.place] = Branch(one.place, build_step(one.trajectory, replace(proposal, selected=index)))
    return Round(tuple(branches), tuple(proposals))


async def write_rated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every unfinished response grow by one step that the PRM rates."""
    return await write_each(population, growing, ports, seed, rewards=True)


async def write_unrated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every unfinished response grow by one step. The PRM is not asked."""
    return await write_each(population, growing, ports, seed, rewards=False)


async def choose_most_votes(population: Population, params: Params, answers: Answers) -> int:
    """Return the place of the first response whose answer most responses share. No answer, no vote."""
    first_of: dict[str, int] = {}  # an answer as written -> the place of the first response with an equal answer
    votes: Counter[int] = Counter()
    for place, trajectory in enumerate(population):
        answer = await asyncio.to_thread(answers.find, trajectory.text)
        if answer is not None:
            if answer not in first_of:
                first_of[answer] = await _first_equal(answer, place, first_of, answers)
            votes[first_of[answer]] += 1
    return max(votes, key=lambda first: (votes[first], -first)) if votes else 0


async def _first_equal(answer: str, place: int, first_of: Mapping[str, int], answers: Answers) -> int:
    """Return the place of the first response with an equal answer; ``place`` itself if no earlier answer is equal."""
    different: set[int] = set()
    for other, first in first_of.items():
        if first not in different and await answers.are_equal(other, answer):
            return first
        different.add(first)
    return place


MAJORITY_VOTE = Method(
    name="majority-vote",
    summary="one model writes n whole responses; the answer is the one that most responses share",
    source="RSD, section 3",
    make_round=write_unrated,
    start=start_with_n,
    choose=choose_most_votes,
    asks_rewards=in_no_job,
    parameters=("n", "role"),
)
