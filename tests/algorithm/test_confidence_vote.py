"""Votes weighted by confidence, which end hopeless responses, and themselves once the winner is clear.

Fu et al., "Deep Think with Confidence" (arXiv 2508.15260); quotations are from its authors' code.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import FinishReason, Outcome, Population, Source, Step, Trajectory
from gsi.algorithm.confidence import lowest_confidence, percentile, step_confidence
from gsi.algorithm.method import Unfinished, decided_never
from gsi.algorithm.methods import METHODS
from gsi.algorithm.methods.confidence_vote import choose_heaviest_votes, find_threshold, is_decided, pick
from gsi.algorithm.params import Params, StopRules
from tests.algorithm.searching import READ, WORLD, write
from tests.algorithm.worlds import START

PARAMS = Params(method="confidence-vote", n=8, stop=StopRules(max_steps=12))
ALL_VOTE = replace(PARAMS, vote_percentile=0.0, vote_consensus=None)


def step(index: int, text: str, confidence: float, num_tokens: int = 1, source: Source = Source.DRAFT) -> Step:
    """Return a step of this confidence. "d" ends a response, whose answer is its first letter."""
    nats = num_tokens * math.log(confidence)
    ids = (ord(text),) * num_tokens
    finish = FinishReason.EOS if text == "d" else FinishReason.DELIMITER
    made = Step(index, ids, text, source, Outcome.ACCEPTED, finish, math.nan, math.nan)
    is_of_draft = source is Source.DRAFT
    return replace(made, log_likelihood_draft=nats) if is_of_draft else replace(made, log_likelihood_target=nats)


def response(letters: str, *confidences: float) -> Trajectory:
    """Return a response of a step for each letter, with these confidences."""
    steps = zip(letters, confidences, strict=True)
    return START.extend(*(step(index, letter, confidence) for index, (letter, confidence) in enumerate(steps)))


def unfinished(population: Population, params: Params) -> list[Unfinished]:
    """Return the responses of ``population`` that have no step "d" yet."""
    return [Unfinished(place, one, params) for place, one in enumerate(population) if "d" not in one.text]


# --- Confidence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", Source)
def test_the_confidence_of_a_step_is_the_mean_of_its_tokens(source: Source) -> None:
    """exp of the mean log-likelihood of a token, under the model that wrote it: a long step is no less sure."""
    for num_tokens in (1, 7, 300):
        assert step_confidence(step(0, "a", 0.8, num_tokens, source)) == pytest.approx(0.8)


def test_a_step_without_a_likelihood_has_no_confidence() -> None:
    """Rather than one that is made up."""
    with pytest.raises(ValueError, match="step 0 has no likelihood of the draft that wrote it"):
        step_confidence(replace(step(0, "a", 0.5), log_likelihood_draft=None))


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=10))
def test_the_lowest_confidence_never_rises(confidences: Sequence[float]) -> None:
    """Of every longer response: what bounds a vote to come is what the response weighs now."""
    lowest = [lowest_confidence(response("a" * k, *confidences[:k])) for k in range(len(confidences) + 1)]
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[0] == 1.0


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), st.floats(0, 100))
def test_the_percentile_is_that_of_the_authors_code(values: Sequence[float], percent: float) -> None:
    """``conf_bar = float(np.percentile(warmup_result['min_confs'], CONFIDENCE_PERCENTILE))``."""
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), abs=1e-12)


# --- Who goes on, and who votes -----------------------------------------------------------------------------------


def test_the_warm_up_is_written_to_its_end_before_the_others_begin() -> None:
    """As in the authors' code: the threshold comes from complete responses."""
    population = (START,) * 8
    assert [one.place for one in pick(population, unfinished(population, PARAMS), 1)] == [0, 1, 2, 3]
    population = (response("ad", 0.9, 0.9), START, response("a", 0.01), *population[3:])
    assert [one.place for one in pick(population, unfinished(population, PARAMS), 1)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("n", "warmup", "expected"), [(1, None, 1), (5, None, 3), (64, None, 16), (4, 9, 4), (8, 2, 2)]
)
def test_the_warm_up_is_half_of_n_but_no_more_than_the_authors_take(n: int, warmup: int | None, expected: int) -> None:
    """The authors' code: ``WARMUP_TRACES = 16`` of ``TOTAL_BUDGET = 256``."""
    assert replace(PARAMS, n=n, vote_warmup=warmup).num_warm_up_responses == expected


def test_a_response_ends_once_its_confidence_is_below_the_threshold() -> None:
    """Strictly below it, as the authors' "gconf_threshold". A response that has not begun is below no threshold."""
    warm_up = [response("ad", low, 0.95) for low in (0.5, 0.6, 0.7, 0.9)]
    population = (*warm_up, START, response("a", 0.53), response("a", 0.52999), response("ab", 0.9, 0.1))
    assert find_threshold(population, PARAMS) == pytest.approx(0.53)  # numpy's 10th percentile of the four
    low = replace(PARAMS, vote_percentile=0.0)
    assert [one.place for one in pick(population, unfinished(population, low), 1)] == [4, 5, 6]
    high = replace(PARAMS, vote_percentile=90.0)
    assert [one.place for one in pick(population, unfinished(population, high), 1)] == [4]


async def test_a_vote_weighs_the_lowest_confidence_and_none_below_the_threshold() -> None:
    """The authors' "voting_weights.append(trace['min_conf'])", for the warm-up and others that reach the threshold."""
    population = (response("ad", 0.5, 0.9), response("ad", 0.9, 0.2), response("bd", 0.8, 0.75), START)
    params = replace(ALL_VOTE, n=4, vote_warmup=3)
    assert await choose_heaviest_votes(population, params, READ, 1) == 2  # 0.75 against 0.5 + 0.2
    assert await choose_heaviest_votes(population, replace(params, vote_percentile=100.0), READ, 1) == 2
    bolder = (response("ad", 0.5, 0.9), response("ad", 0.9, 0.3), *population[2:])
    assert await choose_heaviest_votes(bolder, params, READ, 1) == 0  # 0.8 against 0.75
    assert await choose_heaviest_votes(bolder, replace(params, vote_percentile=50.0), READ, 1) == 2  # 0.3 has no vote


# --- When the vote ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consensus", "ends"),
    [(0.6, True), (0.75, True), (0.76, False), (None, False)],
)
async def test_the_vote_ends_once_the_winner_has_its_share_of_the_weights(consensus: float | None, ends: bool) -> None:
    """By consensus: V(winner) / sum of V reaches tau."""
    warm_up = [response("ad", 0.9, 0.9), response("ad", 0.6, 0.9), response("bd", 0.5, 0.9)]
    population = (*warm_up, *(START,) * 5)
    params = replace(PARAMS, vote_warmup=3, vote_percentile=0.0, vote_consensus=consensus)
    assert await is_decided(population, unfinished(population, params), READ) is ends


@pytest.mark.parametrize(("weight", "ends"), [(0.39, True), (0.41, False)])
async def test_the_vote_ends_once_no_vote_to_come_can_change_the_winner(weight: float, ends: bool) -> None:
    """What is still written weighs at most its lowest confidence so far: here 0.5 + weight against 0.9."""
    warm_up = [response("ad", 0.9, 0.9), response("bd", 0.5, 0.9)]
    population = (*warm_up, response("a", weight))
    params = replace(ALL_VOTE, n=3, vote_warmup=2)
    assert await is_decided(population, unfinished(population, params), READ) is ends


async def test_nothing_is_decided_during_the_warm_up_or_without_a_vote() -> None:
    """There is no threshold, or no winner."""
    one_voice = (response("ad", 0.9, 0.9), *(START,) * 7)
    assert not await is_decided(one_voice, unfinished(one_voice, PARAMS), READ)
    silent = (response("aaaa", *(0.9,) * 4),) * 4 + (START,) * 4
    growing = [Unfinished(place, START, PARAMS) for place in range(4, 8)]
    assert not await is_decided(silent, growing, READ)


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([0.0, 10.0, 60.0]))
async def test_the_exact_end_never_changes_the_answer(seed: int, n: int, vote_percentile: float) -> None:
    """Without consensus the vote has the winner that it has when every response is written to its end."""
    params = replace(ALL_VOTE, n=n, vote_percentile=vote_percentile)
    ended = await write(params, WORLD.ports(), seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, params.method, replace(METHODS[params.method], is_decided=decided_never))
        whole = await write(params, WORLD.ports(), seed)
    assert READ.find(ended.answer.text) == READ.find(whole.answer.text)
    assert sum(made.num_tokens(Source.DRAFT) for made in ended.rounds) <= sum(
        made.num_tokens(Source.DRAFT) for made in whole.rounds
    )


async def num_tokens(params: Params, seed: int) -> int:
    return sum(made.num_tokens(Source.DRAFT) for made in (await write(params, WORLD.ports(), seed)).rounds)


async def test_both_ends_save_tokens() -> None:
    """In a world of several answers: of the same jobs, the vote that may end early writes less."""
    params = replace(PARAMS, n=16)
    votes = {
        "whole": replace(params, method="majority-vote"),
        "exact": replace(params, vote_consensus=None, vote_percentile=0.0),
        "early": replace(params, vote_consensus=0.75, vote_percentile=50.0),
    }
    tokens = {name: sum([await num_tokens(vote, seed) for seed in range(20)]) for name, vote in votes.items()}
    assert tokens["early"] < tokens["exact"] < tokens["whole"]
