"""Methods over n whole responses of one model: best-of-n and majority vote (RSD paper, section 3 and Table 2).

Responses are written step by step beside each other, so that they stop, resume and are recorded as any answer is.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Branch, Population
from gsi.algorithm.methods.rounds import Answers, Search, highest_score, side_by_side
from gsi.algorithm.params import Params
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.seeds import derive_seed
from gsi.algorithm.step import MadeStep, Unfinished, kept, propose


async def write_each(
    population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int, *, rewards: bool
) -> MadeStep:
    """Let every unfinished response grow by one step; those that are still the same are written in one proposal."""
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

    proposals = await side_by_side([write(group) for group in groups.values()])
    branches = [Branch(place, None) for place in range(len(population))]
    for proposal, group in zip(proposals, groups.values(), strict=True):
        for index, one in enumerate(group):
            branches[one.place] = Branch(one.place, kept(one.trajectory, replace(proposal, selected=index)))
    return MadeStep(tuple(branches), tuple(proposals))


async def _rated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> MadeStep:
    return await write_each(population, growing, ports, seed, rewards=True)


async def _unrated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> MadeStep:
    return await write_each(population, growing, ports, seed, rewards=False)


async def most_votes(population: Population, params: Params, answers: Answers) -> int:
    """Return the place of the first response whose answer most responses share; one without an answer has no vote."""
    groups: list[int | None] = []  # of each response: the place of the first one with an equal answer
    for text in (trajectory.text for trajectory in population):
        groups.append(await _group_of(answers.find(text), population, groups, answers))
    votes = Counter(group for group in groups if group is not None)
    return max(votes, key=lambda group: (votes[group], -group)) if votes else 0


async def _group_of(
    answer: str | None, population: Population, groups: Sequence[int | None], answers: Answers
) -> int | None:
    if answer is None:
        return None
    for first in dict.fromkeys(group for group in groups if group is not None):
        if await answers.are_equal(answers.find(population[first].text) or "", answer):
            return first
    return len(groups)


BEST_OF_RESPONSES = Search(_rated, highest_score, starts_with_n=True)
MAJORITY_VOTE = Search(_unrated, most_votes, starts_with_n=True)
