"""Adaptive n, early ends and rejection ask for candidates in parts, whose rows and shares are counted by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.n_rule import part_ends
from gsi.algorithm.params import Params, StopRules
from gsi.errors import InvalidRequestError
from gsi.planning.calls import CALLS
from gsi.planning.parts import Part, plan_parts, plan_parts_by_rule, plan_rejection, plan_vote, spread_rows
from gsi.planning.quantities import Quantity
from gsi.planning.steps import plan_steps
from tests.algorithm.searching import ENDLESS, UNREAD, write
from tests.planning.worlds import WORK, make_setup

VOTE, REJECTION, ADAPTIVE = "confidence-vote:draft", "speculative-rejection:draft", "soft-best-of-n:draft:n_rule"


def count_rows(parts: tuple[Part, ...]) -> float:
    """Return the mean candidates of a step."""
    return sum(part.share * part.num_rows for part in parts)


def plan_with(label: str, quantity: Quantity, value: float) -> float:
    """Return the tokens that the draft writes in a step."""
    step = plan_steps(make_setup(work=replace(WORK, quantities={quantity: {label: value}})))[label]
    return sum(phase.share * phase.tokens for phase in step.phases if phase.role == "draft" and phase.is_writing)


def test_a_method_without_a_rule_asks_for_all_candidates_at_once() -> None:
    """One part of n."""
    assert plan_parts("gsi", CALLS["gsi"], 16, 13.0, {}) == (Part(16),)


@pytest.mark.parametrize(
    ("mean", "parts"),
    [
        (4.0, (Part(4),)),
        (8.0, (Part(4), Part(4, 0.5), Part(8, 0.25))),  # 4 + 4/2 + 8/4
        (16.0, (Part(4), Part(4), Part(8))),
    ],
)
def test_adaptive_n_asks_for_another_part_with_the_probability_that_gives_the_mean(
    mean: float, parts: tuple[Part, ...]
) -> None:
    """Of 16: four, four more with probability s, eight more with probability s squared."""
    assert plan_parts_by_rule("gsi:n_rule", 16, mean) == parts


def test_few_candidates_have_fewer_parts() -> None:
    """One is asked for at once; two in two parts, 1 + 1/2."""
    assert plan_parts_by_rule("gsi:n_rule", 1, 1.0) == (Part(1),)
    assert plan_parts_by_rule("gsi:n_rule", 2, 1.5) == (Part(1), Part(1, 0.5))


@given(st.integers(1, 256), st.floats(0, 1))
def test_the_parts_of_adaptive_n_have_the_mean_that_was_given(n: int, place: float) -> None:
    """At every n and every mean that there can be; no part is likelier than the one before it."""
    mean = part_ends(n)[0] + place * (n - part_ends(n)[0])
    parts = plan_parts_by_rule("gsi:n_rule", n, mean)
    assert count_rows(parts) == pytest.approx(mean)
    shares = [part.share for part in parts]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1


@pytest.mark.parametrize("mean", [3.9, 16.1])
def test_a_mean_that_no_rule_can_have_is_refused(mean: float) -> None:
    """The first part of four is always asked for."""
    with pytest.raises(InvalidRequestError, match=f"--mean-n: gsi:n_rule={mean} is not allowed at n = 16; .* from 4,"):
        plan_parts_by_rule("gsi:n_rule", 16, mean)


def test_speculative_rejection_halves_the_responses_whenever_the_memory_is_full() -> None:
    """Of 16 over 13 steps: 16 for one, 8 for one, 4 for two, 2 for four, 1 for the five that are left."""
    parts = plan_rejection(16, 13.0)
    assert [part.num_rows for part in parts] == [16, 8, 4, 2, 1]
    assert [part.share * 13 for part in parts] == pytest.approx([1, 1, 2, 4, 5])


def test_the_last_step_of_a_mean_may_be_a_part_of_one() -> None:
    """2.5 steps of 4 responses: 4 for one, 2 for one, and 1 for half of a step."""
    assert plan_rejection(4, 2.5) == (Part(4, 1 / 2.5), Part(2, 1 / 2.5), Part(1, 0.5 / 2.5))


@pytest.mark.parametrize("n", [1, 3, 8, 16, 21])
async def test_the_planner_follows_the_method_itself(n: int) -> None:
    """The method, run on responses that never end by themselves, asks for so many candidates in each round."""
    params = Params(method="speculative-rejection", n=n, stop=StopRules(max_steps=16))
    written = await write(params, ENDLESS.ports(), answers=UNREAD)
    asked = sum(len(proposal.candidates) for made in written.rounds for proposal in made.proposals)
    assert count_rows(plan_rejection(n, len(written.rounds))) * len(written.rounds) == pytest.approx(asked)


def test_a_measured_share_counts_more_than_the_rule_of_rejection() -> None:
    """A quarter of 16 responses' tokens is four rows in every round."""
    assert plan_parts(REJECTION, CALLS[REJECTION], 16, 13.0, {Quantity.WRITTEN: 0.25}) == (Part(4, 1.0),)


def test_rows_that_are_no_whole_number_are_the_two_around_it() -> None:
    """2.25 rows are 2 in three of four rounds and 3 in the fourth; a quarter of a row is one row in a quarter."""
    assert spread_rows(2.25) == (Part(2, 0.75), Part(3, 0.25))
    assert spread_rows(0.25) == (Part(1, 0.25),)
    assert spread_rows(0.0) == ()


def test_a_vote_writes_its_warm_up_first() -> None:
    """Of 16, 8 are the warm-up (half of n); 70 % of all tokens leave 3.2 rows for the other responses."""
    assert plan_vote(VOTE, 16, 0.5) == (Part(8),)
    assert plan_vote(VOTE, 16, 0.75) == (Part(8), Part(4, 1.0))
    assert count_rows(plan_vote(VOTE, 16, 0.7)) == pytest.approx(0.7 * 16)


def test_a_vote_that_writes_less_than_its_warm_up_is_refused() -> None:
    """The sentence says how much the warm-up is."""
    with pytest.raises(InvalidRequestError, match=f"--written: {VOTE}=0.4 is not allowed at n = 16; .* from 0.5,"):
        plan_vote(VOTE, 16, 0.4)


def test_the_tokens_of_a_step_are_those_of_the_share() -> None:
    """25 tokens a candidate: 8 of 16 by a mean n, three quarters of a vote, 45 of 208 rows by rejection."""
    assert plan_with(ADAPTIVE, Quantity.MEAN_N, 8.0) == pytest.approx(8 * WORK.mean)
    assert plan_with(VOTE, Quantity.WRITTEN, 0.75) == pytest.approx(12 * WORK.mean)
    assert plan_with(REJECTION, Quantity.SURE, 0.0) == pytest.approx((16 + 8 + 2 * 4 + 4 * 2 + 5) / 13 * WORK.mean)


def test_parts_follow_one_another() -> None:
    """At a mean of 8 of 16 a step takes the seconds of four, half of those of four, and a quarter of those of eight."""
    whole = {n: plan_steps(make_setup(work=replace(WORK, n=n)))["soft-best-of-n:draft"].seconds for n in (4, 8)}
    step = plan_steps(make_setup(work=replace(WORK, quantities={Quantity.MEAN_N: {ADAPTIVE: 8.0}})))[ADAPTIVE]
    assert step.seconds == pytest.approx(1.5 * whole[4] + 0.25 * whole[8])


def test_a_rejected_step_is_written_in_parts_too() -> None:
    """GSI with a rule that accepts three quarters: the target's parts happen in a quarter of the steps each time."""
    label = "gsi:n_rule"
    work = replace(WORK, acceptance={label: 0.75}, quantities={Quantity.MEAN_N: {label: 8.0}})
    shares = [(phase.role, phase.share) for phase in plan_steps(make_setup(work=work))[label].phases]
    drafted = [(role, share) for share in (1.0, 0.5, 0.25) for role in ("draft", "target", "prm")]
    rewritten = [(role, 0.25 * share) for share in (1.0, 0.5, 0.25) for role in ("target", "prm")]
    assert shares == [*drafted, *rewritten]
