"""Best-of-n over whole responses, and majority vote."""

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.method import Answers
from gsi.algorithm.methods.responses import choose_most_votes
from gsi.algorithm.params import Aggregate, Params, Scope, StopRules
from gsi.algorithm.parts import aggregate_rewards, choose_highest_score, score
from tests.algorithm.draws import LEAST_P, p_value
from tests.algorithm.searching import ENDLESS, READ, UNREAD, WORLD, trajectory, write
from tests.algorithm.worlds import World

BEST_OF_N = Params(method="best-of-n", scope=Scope.RESPONSES, n=8, stop=StopRules(max_steps=5))
MAJORITY = Params(method="majority-vote", n=8, stop=StopRules(max_steps=5))

# --- How good a response is ---------------------------------------------------------------------------------------

# Each is the best by one aggregate and by no other.
LAST = trajectory(("a", 0.1), ("b", 0.99))
MINIMUM = trajectory(("c", 0.5), ("d", 0.5), ("e", 0.5))
PRODUCT = trajectory(("f", 0.4), ("g", 0.8))
RESPONSES = (LAST, MINIMUM, PRODUCT)


@pytest.mark.parametrize(
    ("aggregate", "scores"),
    [
        (Aggregate.LAST, [0.99, 0.5, 0.8]),
        (Aggregate.MINIMUM, [0.1, 0.5, 0.4]),
        (Aggregate.PRODUCT, [0.099, 0.125, 0.32]),
    ],
)
async def test_a_response_is_chosen_by_the_last_the_least_or_the_product_of_its_rewards(
    aggregate: Aggregate, scores: list[float]
) -> None:
    """RSD, section 3: "selects the highest-scoring response (last step)"; the others are usual, too."""
    assert [score(one, aggregate) for one in RESPONSES] == pytest.approx(scores)
    chosen = await choose_highest_score(RESPONSES, replace(BEST_OF_N, aggregate=aggregate), READ, 1)
    assert chosen == scores.index(max(scores))


async def test_of_equal_responses_the_first_is_chosen() -> None:
    """And resumption chooses the same."""
    assert await choose_highest_score((MINIMUM, LAST, LAST), BEST_OF_N, READ, 1) == 1


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [(Aggregate.LAST, 0.9), (Aggregate.MINIMUM, -math.inf), (Aggregate.PRODUCT, -math.inf)],
)
def test_a_reward_that_is_not_a_number_spoils_the_scores_that_it_counts_in(
    aggregate: Aggregate, expected: float
) -> None:
    """Also twice: -inf times -inf would be the best of all."""
    assert aggregate_rewards([math.nan, math.nan, 0.9], aggregate) == expected
    assert aggregate_rewards([math.nan, math.nan], aggregate) == -math.inf


@pytest.mark.parametrize("aggregate", Aggregate)
def test_a_response_without_a_step_has_the_lowest_score(aggregate: Aggregate) -> None:
    """Nothing was written, so nothing was rated."""
    assert aggregate_rewards([], aggregate) == -math.inf


@pytest.mark.parametrize("aggregate", Aggregate)
async def test_best_of_n_writes_n_responses_and_answers_with_the_best(aggregate: Aggregate) -> None:
    """Through the whole loop, in a world in which the aggregates differ."""
    params = replace(BEST_OF_N, aggregate=aggregate)
    for seed in range(10):
        written = await write(params, WORLD.ports(), seed)
        responses = written.populations(params)[-1]
        assert len(responses) == 8
        assert score(written.answer, aggregate) == max(score(one, aggregate) for one in responses)


# --- How responses are written ------------------------------------------------------------------------------------


async def test_responses_are_independent_draws_from_the_model() -> None:
    """Those that begin alike are written in one proposal, the others in their own: the law is the same."""
    world = World(draft=(0.6, 0.4), target=(0.5, 0.5), reward=(0.5, 0.5), turns=True)
    params = replace(MAJORITY, n=2, stop=StopRules(max_steps=2))
    drawn = []
    for seed in range(6_000):
        written = await write(params, world.ports(), seed)
        first, second = written.populations(params)[-1]
        drawn.append((first.text, second.text))
    one = {a + b: (0.6 if a == "a" else 0.4) * (0.4 if b == "a" else 0.6) for a, b in product("ab", repeat=2)}
    law = {(a, b): one[a] * one[b] for a, b in product(one, repeat=2)}
    assert p_value(law, drawn) > LEAST_P


async def test_responses_that_are_still_the_same_share_one_proposal() -> None:
    """The prefix is read once for all of them; a round asks as many proposals as there are different texts."""
    written = await write(MAJORITY, ENDLESS.ports(), answers=UNREAD)
    for before, made in zip(written.populations(MAJORITY), written.rounds, strict=False):
        assert len(made.proposals) == len({one.token_ids for one in before})
        assert sum(len(proposal.candidates) for proposal in made.proposals) == 8
    assert len(written.rounds[0].proposals) == 1
    assert len(written.rounds[-1].proposals) > 4


@pytest.mark.parametrize("role", Source)
async def test_majority_vote_asks_one_model_and_no_prm(role: Source) -> None:
    """RSD, Table 2: "Majority Voting" has no PRM; its rewards are not numbers."""
    written = await write(replace(MAJORITY, role=role), WORLD.ports())
    for made in written.rounds:
        assert {proposal.source for proposal in made.proposals} == {role}
        assert all(proposal.scores == {} for proposal in made.proposals)
        assert all(math.isnan(step.reward) for step in made.steps)


# --- The vote -----------------------------------------------------------------------------------------------------


def find(text: str) -> str | None:
    return text.partition("=")[2] or None


async def by_value(one: str, other: str) -> bool:
    return Fraction(one) == Fraction(other)


VALUES = Answers(find, by_value)


def texts(*answers: str) -> tuple[Trajectory, ...]:
    return tuple(trajectory((text, math.nan)) for text in answers)


@pytest.mark.parametrize(
    ("responses", "winner"),
    [
        (["=3", "=5", "=5"], 1),
        (["=1/2", "=3", "=0.5", "=2/4", "=3"], 0),  # three ways to write a half
        (["=3", "=0.5", "=1/2"], 1),
        (["=2", "=1", "=1", "=2"], 0),  # a tie: the first answer that was given
        (["=1", "=2", "=3"], 0),
        (["none", "=4", "none", "none"], 1),  # a text without an answer has no vote
        (["none", "=2", "=1", "=1", "=2"], 1),
        (["none", "nothing"], 0),
        (["=7"], 0),
    ],
)
async def test_the_answer_that_most_responses_share_wins(responses: list[str], winner: int) -> None:
    """And of those that share it, the first response is the answer."""
    assert await choose_most_votes(texts(*responses), MAJORITY, VALUES, 1) == winner


async def test_an_answer_belongs_to_the_first_group_that_it_equals() -> None:
    """Equality to some precision is not transitive, so the order of the responses decides, at every attempt."""

    async def nearly(one: str, other: str) -> bool:
        return abs(int(one) - int(other)) <= 1

    assert await choose_most_votes(texts("=1", "=2", "=3", "=3"), MAJORITY, Answers(find, nearly), 1) == 0
    assert await choose_most_votes(texts("=3", "=2", "=1", "=3"), MAJORITY, Answers(find, nearly), 1) == 0
    assert await choose_most_votes(texts("=5", "=2", "=1", "=3"), MAJORITY, Answers(find, nearly), 1) == 1


async def test_the_majority_wins_through_the_whole_loop() -> None:
    """In a world where the answer is the first letter of a text that ended."""
    for seed in range(10):
        params = replace(MAJORITY, n=16, stop=StopRules(max_steps=20))
        written = await write(params, WORLD.ports(), seed)
        answers = [READ.find(one.text) for one in written.populations(params)[-1]]
        votes = Counter(answer for answer in answers if answer is not None)
        assert votes[READ.find(written.answer.text) or ""] == max(votes.values())
