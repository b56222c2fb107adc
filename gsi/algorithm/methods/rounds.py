"""Parts of methods that keep several trajectories: how one grows beside the others, and how good one is."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any, TypeVar

from gsi.algorithm.candidates import Population, Trajectory
from gsi.algorithm.params import Aggregate, Params
from gsi.algorithm.parts import MakeRound
from gsi.algorithm.tilting import rankable

T = TypeVar("T")

FindAnswer = Callable[[str], str | None]
AreEqual = Callable[[str, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Answers:
    """How a finished text is read: its answer, if it has one, and whether two answers say the same."""

    find: FindAnswer
    are_equal: AreEqual


Choose = Callable[[Population, Params, Answers], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Search:
    """A method that keeps several trajectories: how they grow, and which one is the answer in the end."""

    make_round: MakeRound
    choose: Choose
    starts_with_n: bool  # else with one

    def start(self, prompt: Trajectory, params: Params) -> Population:
        """Return the population before the first round."""
        return (prompt,) * (params.n if self.starts_with_n else 1)


def aggregated(rewards: Sequence[float], aggregate: Aggregate) -> float:
    """Return the score of a trajectory from the rewards of its steps; -inf if one that counts is not a number."""
    ranked = [rankable(reward) for reward in rewards]
    if not ranked or (aggregate is Aggregate.PRODUCT and -inf in ranked):
        return -inf  # nothing was written; or no product can be ranked
    match aggregate:
        case Aggregate.LAST:
            return ranked[-1]
        case Aggregate.MINIMUM:
            return min(ranked)
        case Aggregate.PRODUCT:
            return prod(ranked)


def score(trajectory: Trajectory, aggregate: Aggregate) -> float:
    return aggregated([step.reward for step in trajectory.steps], aggregate)


async def highest_score(population: Population, params: Params, answers: Answers) -> int:
    """Return the place of the trajectory with the highest score, the first of them."""
    scores = [score(trajectory, params.aggregate) for trajectory in population]
    return scores.index(max(scores))


async def side_by_side(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once, return the results in order. If one fails the others are cancelled, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]
