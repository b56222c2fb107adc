"""Diverse verifier tree search: subtrees that do not compete, each greedy by the PRM.

The rule is that of *search-and-learn*: n / beam_width subtrees per problem, each of which appends the best of its own
beam_width completions; the prediction is the completion with the highest aggregated score.
"""

from dataclasses import replace
from itertools import product

import pytest

from gsi.algorithm.candidates import Source
from gsi.algorithm.method import Unfinished
from gsi.algorithm.methods.dvts import expand
from gsi.algorithm.params import Aggregate, Params, StopRules
from gsi.algorithm.parts import score
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, p_value
from tests.algorithm.searching import ENDLESS, UNREAD, WORLD, trajectory, write
from tests.algorithm.worlds import LETTERS, World

PARAMS = Params(method="dvts", n=4, stop=StopRules(max_steps=2))
NUM_DRAWS = 2_000


async def test_every_subtree_is_best_of_n_at_each_step_and_they_are_independent() -> None:
    """Two subtrees of two steps: the law of the pair is the product of the exact laws of best-of-2, step by step."""
    world = World(draft=(0.6, 0.4), target=(0.5, 0.5), reward=(0.3, 0.8), turns=True)
    steps = [exact.best_of_n(world.after(world.draft, t), world.after(world.reward, t), 2) for t in (0, 1)]
    one = {LETTERS[y] + LETTERS[z]: steps[0][y] * steps[1][z] for y, z in product(world.steps, repeat=2)}
    law = {(a, b): one[a] * one[b] for a, b in product(one, repeat=2)}
    pairs = []
    for seed in range(NUM_DRAWS):
        written = await write(PARAMS, world.ports(), seed, answers=UNREAD)
        first, second = written.populations(PARAMS)[-1]
        pairs.append((first.text, second.text))
    assert p_value(law, pairs) > LEAST_P


@pytest.mark.parametrize(("n", "width", "expansion", "expected"), [(16, None, None, (4, 4)), (8, 2, None, (2, 4))])
async def test_n_candidates_a_round_are_split_among_the_subtrees(
    n: int, width: int | None, expansion: int | None, expected: tuple[int, int]
) -> None:
    """In the authors' code there are n / beam_width subtrees, and beam_width is what is the expansion here."""
    params = replace(PARAMS, n=n, beam_width=width, beam_expansion=expansion)
    written = await write(params, ENDLESS.ports(), answers=UNREAD)
    for made in written.rounds:
        assert len(made.proposals) == expected[0]
        assert {len(proposal.candidates) for proposal in made.proposals} == {expected[1]}
        assert [branch.parent for branch in made.branches] == list(range(expected[0]))


async def test_a_subtree_lives_on_however_bad_it_is() -> None:
    """What beam search would throw away: here each trajectory is continued by its own best candidate."""
    population = (trajectory(("a", 0.9)), trajectory(("b", 0.01)))
    params = replace(PARAMS, beam_width=2, beam_expansion=3)
    growing = [Unfinished(place, one, params) for place, one in enumerate(population)]
    made = await expand(population, growing, ENDLESS.ports(), 1)
    for place, (branch, proposal) in enumerate(zip(made.branches, made.proposals, strict=True)):
        assert (branch.parent, proposal.parent) == (place, place)
        assert branch.step is not None
        assert branch.step.reward == max(proposal.rewards)


@pytest.mark.parametrize("aggregate", Aggregate)
@pytest.mark.parametrize("role", Source)
async def test_the_answer_is_the_subtree_with_the_highest_score(aggregate: Aggregate, role: Source) -> None:
    """As in the authors' code ("agg_strategy"), over all subtrees; one model writes."""
    params = replace(PARAMS, n=9, aggregate=aggregate, role=role, stop=StopRules(max_steps=4))
    for seed in range(5):
        written = await write(params, WORLD.ports(), seed)
        subtrees = written.populations(params)[-1]
        assert len(subtrees) == 3
        assert score(written.answer, aggregate) == max(score(one, aggregate) for one in subtrees)
        assert {step.source for one in subtrees for step in one.steps} == {role}


async def test_a_finished_subtree_waits() -> None:
    """It asks for no candidates, and its place is kept."""
    population = (trajectory(("d", 0.4)), trajectory(("b", 0.5)))
    made = await expand(population, [Unfinished(1, population[1], PARAMS)], ENDLESS.ports(), 1)
    assert made.branches[0].step is None
    assert [proposal.parent for proposal in made.proposals] == [1]
