"""Speculative rejection: best-of-n over responses, of which the worst share ends whenever the memory is full.

Sun et al., "Fast Best-of-N Decoding via Speculative Rejection" (arXiv 2410.20290).
"""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Branch, Source
from gsi.algorithm.method import Unfinished
from gsi.algorithm.methods.speculative_rejection import find_rejected
from gsi.algorithm.params import Aggregate, Params, Scope, StopRules
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, p_value
from tests.algorithm.searching import ENDLESS, UNREAD, WORLD, a_step, trajectory, write
from tests.algorithm.worlds import START, World

PARAMS = Params(method="speculative-rejection", n=16, stop=StopRules(max_steps=16))
SMALL = World(draft=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), reward=(0.2, 0.5, 0.9), turns=True)


@pytest.mark.parametrize(("n", "alpha", "num_steps"), [(3, 0.4, 3), (4, 0.5, 2)])
async def test_the_answer_follows_its_exact_law(n: int, alpha: float, num_steps: int) -> None:
    """Whenever the memory is full, the share alpha with the lowest rewards of what is written so far is rejected."""
    params = replace(PARAMS, n=n, rejected_share=alpha, stop=StopRules(max_steps=num_steps))
    law = exact.speculative_rejection(SMALL, n, alpha, num_steps)
    answers = [(await write(params, SMALL.ports(), seed, answers=UNREAD)).answer for seed in range(1500)]
    assert p_value(law, [answer.token_ids[1:] for answer in answers]) > LEAST_P


async def test_half_of_the_responses_end_where_the_memory_is_full() -> None:
    """Of 16 with alpha = 1/2, 8 fit for two steps, 4 for four, 2 for eight, 1 for sixteen."""
    written = await write(PARAMS, ENDLESS.ports(), answers=UNREAD)
    sizes = [len(made.branches) for made in written.rounds]
    assert sizes == [8, 4, 4, 2, 2, 2, 2, *[1] * 9]


async def test_it_writes_fewer_tokens_than_best_of_n() -> None:
    """It starts with the steps of best-of-n for the same seed, and saves what the rejected would have written."""
    slow = replace(PARAMS, method="best-of-n", scope=Scope.RESPONSES)
    written = [await write(params, ENDLESS.ports(), 3, answers=UNREAD) for params in (PARAMS, slow)]
    assert written[0].rounds[0].proposals[0].candidates == written[1].rounds[0].proposals[0].candidates
    tokens = [sum(made.num_tokens(Source.DRAFT) for made in one.rounds) for one in written]
    assert tokens == [16 + 8 + 4 + 4 + 4 * 2 + 8, 16 * 16]


@given(st.integers(1, 24), st.floats(0.01, 0.99), st.integers(0, 2**32), st.sampled_from(Aggregate))
async def test_no_point_rejects_the_best_response(n: int, alpha: float, seed: int, aggregate: Aggregate) -> None:
    """The share is rounded down, so one response is always left, and a response that is left is no worse."""
    params = replace(PARAMS, n=n, rejected_share=alpha, aggregate=aggregate, stop=StopRules(max_steps=6))
    written = await write(params, WORLD.ports(), seed)
    sizes = [n, *(len(made.branches) for made in written.rounds)]
    for before, after in pairwise(sizes):
        assert 1 <= after <= before
        assert before - after <= alpha * before


def test_of_equal_scores_those_behind_are_rejected_first() -> None:
    """So that a resumed job rejects the same; a reward that is not a number is below all others."""
    population = (START,) * 4
    growing = [Unfinished(place, START, PARAMS) for place in range(4)]

    def rejected(*rewards: float) -> frozenset[int]:
        branches = [Branch(place, a_step(0, "a", reward)) for place, reward in enumerate(rewards)]
        return find_rejected(population, growing, branches, PARAMS)

    assert rejected(0.5, 0.5, 0.5, 0.5) == {2, 3}
    assert rejected(0.1, 0.9, math.nan, 0.5) == {0, 2}


def test_finished_responses_are_not_rejected_later() -> None:
    """They are complete, and the best of the complete is the answer."""
    population = (trajectory(("d", 0.1)), START, START)
    growing = [Unfinished(place, START, PARAMS) for place in (1, 2)]
    branches = [Branch(0, None), Branch(1, a_step(0, "a", 0.9)), Branch(2, a_step(0, "b", 0.8))]
    assert find_rejected(population, growing, branches, PARAMS) == {2}


async def test_a_single_response_is_written_to_its_end() -> None:
    """There is no other that it could fall behind."""
    written = await write(replace(PARAMS, n=1), ENDLESS.ports(), answers=UNREAD)
    assert [len(made.branches) for made in written.rounds] == [1] * 16
