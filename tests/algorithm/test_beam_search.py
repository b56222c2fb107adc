"""Beam search: what is expanded, what competes, what is kept; and where nothing is thrown away, the best there is."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Branch, FinishReason, Outcome, Source
from gsi.algorithm.method import Unfinished
from gsi.algorithm.methods.beam_search import expand
from gsi.algorithm.params import Aggregate, Params, StopRules
from gsi.algorithm.parts import score
from tests.algorithm.searching import ENDLESS, UNREAD, WORLD, Listing, trajectory, write
from tests.algorithm.worlds import START, World

PARAMS = Params(method="beam-search", n=4, beam_width=3, beam_expansion=2, stop=StopRules(max_steps=4))


@pytest.mark.parametrize(
    ("n", "width", "expansion", "expected"),
    [
        (16, None, None, (4, 4)),
        (1, None, None, (1, 1)),
        (10, None, None, (3, 3)),
        (16, 8, None, (8, 2)),
        (4, 8, None, (8, 1)),
        (16, None, 3, (4, 3)),
        (16, 2, 5, (2, 5)),
    ],
)
def test_width_and_expansion_come_from_n_unless_given(
    n: int, width: int | None, expansion: int | None, expected: tuple[int, int]
) -> None:
    """The square root of n, and n divided by the width: n candidates a round."""
    params = Params(n=n, beam_width=width, beam_expansion=expansion)
    assert (params.num_beams, params.num_expansions) == expected


async def test_the_prompt_is_expanded_by_width_times_expansion_and_each_beam_by_expansion() -> None:
    """So that every round costs the same."""
    written = await write(PARAMS, replace(ENDLESS.ports(), draft=Listing(ENDLESS)), answers=UNREAD)
    assert [len(p.candidates) for p in written.rounds[0].proposals] == [6]
    for before, made in zip(written.populations(PARAMS)[1:], written.rounds[1:], strict=False):
        assert len(before) == 3
        assert [(p.parent, len(p.candidates)) for p in made.proposals] == [(0, 2), (1, 2), (2, 2)]


async def test_the_best_of_all_candidates_are_kept_whichever_beam_they_continue() -> None:
    """Here one beam's candidates may be all that is kept, and the best one leads."""
    written = await write(PARAMS, ENDLESS.ports(), answers=UNREAD)
    for before, made in zip(written.populations(PARAMS), written.rounds, strict=False):
        offered = {
            (*before[p.parent].token_ids, *c.token_ids): reward
            for p in made.proposals
            for c, reward in zip(p.candidates, p.rewards, strict=True)
        }
        kept = [step.reward for step in made.steps]
        assert kept == sorted(offered.values(), reverse=True)[:3]
        assert made.step.reward == kept[0]


async def test_every_beam_draws_from_a_seed_of_its_own() -> None:
    """Or beams of equal length would all be continued by the same draws."""
    even = World(draft=(0.125,) * 8, target=(0.125,) * 8, reward=(0.5,) * 8)
    population = (trajectory(("a", 0.5)), trajectory(("b", 0.5)))
    params = replace(PARAMS, beam_expansion=16)
    growing = [Unfinished(place, one, params) for place, one in enumerate(population)]
    first, second = (await expand(population, growing, even.ports(), 1)).proposals
    assert first.candidates != second.candidates


async def test_what_is_proposed_twice_is_kept_once() -> None:
    """Three beams that say the same would be one beam at three times its cost."""
    certain = World(draft=(1.0, 0.0), target=(0.5, 0.5), reward=(0.5, 0.9))
    written = await write(PARAMS, certain.ports())
    assert [len(made.branches) for made in written.rounds] == [1] * 4
    for population in (await write(PARAMS, ENDLESS.ports(), answers=UNREAD)).populations(PARAMS):
        assert len({one.token_ids for one in population}) == len(population)


GROWING = trajectory(("a", 0.7))


@pytest.mark.parametrize(
    ("finished_reward", "is_kept"),
    [(0.95, True), (0.6, True), (0.1, False)],
)
async def test_finished_beams_compete_with_the_new_candidates(finished_reward: float, is_kept: bool) -> None:
    """One is carried on without a step while its score is among the best, and dropped when others pass it."""
    world = World(draft=(0.5, 0.5), target=(0.5, 0.5), reward=(0.8, 0.2))
    population = (trajectory(("d", finished_reward)), GROWING)
    params = replace(PARAMS, beam_width=2, beam_expansion=2)
    growing = [Unfinished(1, GROWING, params)]
    made = await expand(population, growing, replace(world.ports(), draft=Listing(world)), 1)
    assert (Branch(0, None) in made.branches) is is_kept
    scores = [finished_reward if b.step is None else b.step.reward for b in made.branches]
    assert scores == sorted([finished_reward, 0.8, 0.2], reverse=True)[:2]
    assert [p.parent for p in made.proposals] == [1]


async def test_the_answer_is_a_finished_beam_that_nothing_passed() -> None:
    """The search goes on until every beam it keeps is finished; the highest score wins, not the longest text."""
    world = World(draft=(0.5, 0.5), target=(0.5, 0.5), reward=(0.4, 0.9), ends=frozenset({1}))
    written = await write(PARAMS, replace(world.ports(), draft=Listing(world)))
    assert written.answer.text == "b"
    assert written.answer.steps[-1].finish_reason is FinishReason.EOS
    assert len(written.rounds) == 3  # "ab" and "aab" were kept beside it


def reward_of(world: World, letters: tuple[int, ...]) -> list[float]:
    return [world.after(world.reward, place)[y] for place, y in enumerate(letters)]


AGGREGATES: Mapping[Aggregate, Callable[[Sequence[float]], float]] = {
    Aggregate.LAST: lambda rewards: rewards[-1],
    Aggregate.MINIMUM: min,
    Aggregate.PRODUCT: math.prod,
}


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3), st.sampled_from(Aggregate), st.integers(1, 3))
async def test_with_room_for_everything_it_is_an_exhaustive_search(
    rewards: list[int], aggregate: Aggregate, max_steps: int
) -> None:
    """Three steps at every place, of which one is the end: the answer has the highest score of all texts."""
    third = 1 / 3
    table = [reward / 100 for reward in rewards]
    world = World((third,) * 3, (third,) * 3, table, turns=True, ends=frozenset({2}))
    params = Params(
        method="beam-search",
        beam_width=40,
        beam_expansion=3,
        aggregate=aggregate,
        stop=StopRules(max_steps=max_steps),
    )
    written = await write(params, replace(world.ports(), draft=Listing(world)))
    texts = [
        (*letters, last)
        for length in range(1, max_steps + 1)
        for letters in product((0, 1), repeat=length - 1)
        for last in ((2,) if length < max_steps else (0, 1, 2))
    ]
    assert len(written.populations(params)[-1]) == len(texts)
    best = max(AGGREGATES[aggregate](reward_of(world, letters)) for letters in texts)
    assert score(written.answer, aggregate) == pytest.approx(best)


async def test_the_aggregate_decides_what_is_kept() -> None:
    """A bad step is forgotten by the last reward, and never by the minimum."""
    population = (trajectory(("x", 0.1)), trajectory(("y", 0.6)))
    world = World(draft=(0.5, 0.5), target=(0.5, 0.5), reward=(0.7, 0.7))
    for aggregate, parents in ((Aggregate.MINIMUM, [1, 1]), (Aggregate.PRODUCT, [1, 1]), (Aggregate.LAST, [0, 0])):
        params = replace(PARAMS, beam_width=2, beam_expansion=2, aggregate=aggregate)
        growing = [Unfinished(place, one, params) for place, one in enumerate(population)]
        made = await expand(population, growing, replace(world.ports(), draft=Listing(world)), 1)
        assert [branch.parent for branch in made.branches] == parents


async def test_a_candidate_without_a_reward_is_kept_last() -> None:
    """NaN ranks below every number, and is still better than nothing."""
    world = World(draft=(0.5, 0.5), target=(0.5, 0.5), reward=(math.nan, 0.01))
    ports = replace(world.ports(), draft=Listing(world))
    made = await expand((START,), [Unfinished(0, START, replace(PARAMS, beam_width=1))], ports, 1)
    assert [step.text for step in made.steps] == ["b"]
    both = await expand((START,), [Unfinished(0, START, replace(PARAMS, beam_width=2))], ports, 1)
    assert [step.text for step in both.steps] == ["b", "a"]


@pytest.mark.parametrize("role", Source)
async def test_one_model_writes_and_the_other_is_not_asked(role: Source) -> None:
    """As best-of-n: the role says which."""
    written = await write(replace(PARAMS, role=role), WORLD.ports())
    steps = [step for made in written.rounds for step in made.steps]
    assert {step.source for step in steps} == {role}
    assert {step.outcome for step in steps} == {Outcome.ACCEPTED}
    assert {proposal.source for made in written.rounds for proposal in made.proposals} == {role}
    assert all("target" not in proposal.scores for made in written.rounds for proposal in made.proposals)
