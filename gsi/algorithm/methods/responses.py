"""Methods over n whole responses of one model: best-of-n and majority vote (RSD paper, section 3 and Table 2).

Responses are written step by step beside each other, so that they stop, resume and are recorded as any answer is.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Branch, Population
from gsi.algorithm.methods.rounds import Answers, Search, highest_score, side_by_side
from gsi.algorithm.params import Params
from gsi.algorithm.parts import Unfinished, kept, propose
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import derive_seed


async def write_each(
    population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int, *, rewards: bool
) -> Round:
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
    return Round(tuple(branches), tuple(proposals))


async def _rated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    return await write_each(population, growing, ports, seed, rewards=True)


async def _unrated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    return await write_each(population, growing, ports, seed, rewards=False)


async def most_votes(population: Population, params: Params, answers: Answers) -> int:
    """Return the place of the first response whose answer most responses share; one without an answer has no vote."""
    first_of: dict[str, int] = {}  # an answer as it is written: the place of the first response that says the same
    votes: Counter[int] = Counter()
    for place, answer in enumerate(answers.find(trajectory.text) for trajectory in population):
        if answer is not None:
            if answer not in first_of:
                first_of[answer] = await _first_equal(answer, place, first_of, answers)
            votes[first_of[answer]] += 1
    return max(votes, key=lambda first: (votes[first], -first)) if votes else 0


async def _first_equal(answer: str, place: int, first_of: Mapping[str, int], answers: Answers) -> int:
    """Return the place of the first response that says the same; ``place``, its own, if none before it does."""
    different: set[int] = set()
    for other, first in first_of.items():
        if first not in different and await answers.are_equal(other, answer):
            return first
        different.add(first)
    return place


BEST_OF_RESPONSES = Search(_rated, highest_score, starts_with_n=True)
MAJORITY_VOTE = Search(_unrated, most_votes, starts_with_n=True)
