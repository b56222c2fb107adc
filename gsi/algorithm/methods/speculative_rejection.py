"""Speculative rejection: best-of-n over whole responses, of which those that fall behind end early (Sun et al., 2024).

Sun et al., "Fast Best-of-N Decoding via Speculative Rejection" (arXiv 2410.20290), write a batch until the memory is
full, reject the share alpha with the lowest rewards of what is written so far, and write on in the memory that this
frees. Here a response's size is its number of steps, and the memory holds one step of each of the n responses.
"""

from collections.abc import Sequence

from gsi.algorithm.candidates import Branch, Population
from gsi.algorithm.method import Method, Unfinished, in_every_job
from gsi.algorithm.methods.responses import start_with_n, write_rated
from gsi.algorithm.params import Params
from gsi.algorithm.parts import choose_highest_score, score
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round


async def make_round(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every unfinished response grow by one step. Then reject the worst of them, if the next step has no room."""
    made = await write_rated(population, growing, ports, seed)
    params = growing[0].params
    num_steps = len(growing[0].trajectory.steps) + 1  # of each that grew: the others have finished
    if has_room(len(growing), num_steps + 1, params):
        return made
    rejected = find_rejected(population, growing, made.branches, params)
    return Round(tuple(branch for branch in made.branches if branch.parent not in rejected), made.proposals)


def has_room(num_responses: int, num_steps: int, params: Params) -> bool:
    """Return whether so many responses of so many steps are no larger than n responses of one step."""
    return num_responses * num_steps <= params.n


def find_rejected(
    population: Population, growing: Sequence[Unfinished], branches: Sequence[Branch], params: Params
) -> frozenset[int]:
    """Return the places of the responses whose scores, with the new step, are the lowest share alpha.

    The share is rounded down, so the best response is never rejected. Of equal scores those behind are rejected first.
    """

    def rank(one: Unfinished) -> tuple[float, int]:
        step = branches[one.place].step
        assert step is not None
        return score(population[one.place].extend(step), params.aggregate), -one.place

    num_rejected = count_rejected(len(growing), params)
    return frozenset(one.place for one in sorted(growing, key=rank)[:num_rejected])


def count_rejected(num_growing: int, params: Params) -> int:
    """Return how many of the growing responses are rejected where there is no room for all."""
    return int(params.rejected_share * num_growing)


SPECULATIVE_REJECTION = Method(
    name="speculative-rejection",
    summary="`best-of-n` over whole responses; those that fall behind by the rewards of their steps end early",
    source="Sun et al., 2024 (arXiv 2410.20290)",
    make_round=make_round,
    start=start_with_n,
    choose=choose_highest_score,
    is_search=in_every_job,
    parameters=("n", "role", "aggregate", "rejected_share"),
)
