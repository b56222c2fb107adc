"""SpecReason and ConfSpec: what their papers say of a step, held against the code; the exact laws; what is on record.

The numbers of sections are those of SpecReason (arXiv 2504.07891). Of ConfSpec (arXiv 2602.18447) the abstract is held
against the code; what it leaves open, ``docs/methods.md`` decides.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm import judging
from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.generate import generate
from gsi.algorithm.judging import JudgePrompt, JudgeScore, Question
from gsi.algorithm.lookahead import Lookahead
from gsi.algorithm.params import Params, StopRules
from gsi.algorithm.ports import LabelProbabilities, NoRoomError, Ports
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import StopReason
from tests.algorithm import exact
from tests.algorithm.test_paper import assert_drawn_from
from tests.algorithm.worlds import LETTERS, NUM_QUESTION_TOKENS, START, World, make_first_round

NUM_DRAWS = 5_000
DIGITS = JudgePrompt.SCORE.values


def peak(digit: int, probability: float, other: int = 0) -> tuple[float, ...]:
    """Return the probabilities of the scores 0 to 9: one digit, and what is left for another."""
    table = [0.0] * 10
    table[other] += 1 - probability
    table[digit] += probability
    return tuple(table)


# The target says 9, 7, 6, 7 and 3 of the five steps. The draft is sure of the first, sure that the last is wrong, and
# wrongly sure of the third.
WORLD = World(
    draft=(0.40, 0.20, 0.15, 0.10, 0.15),
    target=(0.10, 0.20, 0.30, 0.35, 0.05),
    reward=(0.9, 0.8, 0.4, 0.7, 0.2),
    says={
        Source.TARGET: (peak(9, 0.8), peak(7, 0.6), peak(6, 0.9, 9), peak(7, 0.55, 6), peak(3, 0.7, 9)),
        Source.DRAFT: (peak(9, 0.95), peak(8, 0.5, 2), peak(7, 0.92), peak(5, 0.7, 9), peak(1, 0.97, 8)),
    },
)


async def steps_of(params: Params, world: World = WORLD) -> list[Round]:
    ports = world.ports()
    return [await make_first_round(params, ports, seed) for seed in range(NUM_DRAWS)]


def outcomes(rounds: Sequence[Round]) -> list[tuple[Source, int]]:
    return [(made.step.source, made.step.token_ids[0]) for made in rounds]


# --- Scores ----------------------------------------------------------------------------------------------------------


def test_the_likeliest_answer_is_the_token_that_greedy_decoding_writes() -> None:
    """Section 4.1: the base model generates "a single-token utility score"; of two equally likely ones the lower."""
    assert judging.score(peak(7, 0.6), DIGITS, JudgeScore.LIKELIEST) == 7
    assert judging.score(peak(9, 0.5, 4), DIGITS, JudgeScore.LIKELIEST) == 4


@given(st.lists(st.floats(0, 1), min_size=10, max_size=10).filter(lambda weights: sum(weights) > 0.01))
def test_a_score_lies_among_the_answers_and_a_confidence_in_0_to_1(weights: list[float]) -> None:
    """However the probabilities are spread: the mean is theirs, and the confidence in two decisions adds up to 1."""
    mean = judging.score(weights, DIGITS, JudgeScore.MEAN)
    assert mean == pytest.approx(sum(k * w for k, w in enumerate(weights)) / sum(weights))
    assert judging.score(weights, DIGITS, JudgeScore.LIKELIEST) in DIGITS
    keeping = judging.confidence(weights, DIGITS, 7)
    assert keeping == pytest.approx(sum(weights[7:]) / sum(weights))
    assert judging.confidence(weights, DIGITS, 0) == 1


@pytest.mark.parametrize("prompt", JudgePrompt)
def test_every_prompt_has_answers_on_both_sides_of_its_threshold(prompt: JudgePrompt) -> None:
    """Else it would keep every step, or none. Its labels are different texts, and their numbers rise."""
    assert min(prompt.values) < prompt.threshold <= max(prompt.values)
    assert list(prompt.values) == sorted(set(prompt.values))
    assert len(prompt.question.labels) == len(prompt.values)


# --- SpecReason ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (Params(method="spec-reason"), (True, True, False, True, False)),
        (Params(method="spec-reason", judge_threshold=9), (True, False, False, False, False)),
        (Params(method="spec-reason", judge_threshold=6), (True, True, True, True, False)),
        # The means are 7.2, 4.2, 6.3, 6.55 and 4.8.
        (
            Params(method="spec-reason", judge_score=JudgeScore.MEAN, judge_threshold=6.4),
            (True, False, False, True, False),
        ),
    ],
    ids=["7 as in the paper", "strict", "lenient", "mean"],
)
async def test_spec_reason_follows_its_exact_law(params: Params, kept: Sequence[bool]) -> None:
    """Section 4.1: a score at or above the threshold accepts the speculated step; else the base model writes it."""
    assert_drawn_from(exact.judged(WORLD, kept), outcomes(await steps_of(params)))


async def test_a_verdict_is_the_same_rule_over_two_answers() -> None:
    """Kept where the target thinks the step rather right than wrong."""
    says = {Source.TARGET: ((0.1, 0.9), (0.4, 0.6), (0.6, 0.4), (0.5, 0.5), (0.9, 0.1))}
    params = Params(method="spec-reason", judge_prompt=JudgePrompt.VERDICT)
    world = replace(WORLD, says=says)
    law = exact.judged(world, (True, True, False, False, False))  # of equally likely answers the lower counts
    assert_drawn_from(law, outcomes(await steps_of(params, world)))


class Unasked:
    """A model that must not be asked."""

    def score(self, *_: Any) -> Any:
        raise AssertionError("it was asked to rate")

    async def judge(self, *_: Any) -> LabelProbabilities:
        raise AssertionError("it was asked to judge")


async def test_spec_reason_asks_the_target_alone_and_no_reward_model() -> None:
    """Section 4.1: the base model assesses the step itself; the target reads the draft's step and the question once."""
    ports = WORLD.ports()
    asked: list[tuple[tuple[int, ...], Question]] = []

    class Listening:
        async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
            asked.append((tuple(prefix), question))
            return await ports.judges[Source.TARGET].judge(prefix, question)

    heard = replace(ports, prm=Unasked(), judges={Source.DRAFT: Unasked(), Source.TARGET: Listening()})
    made = await make_first_round(Params(method="spec-reason", n=16), heard)
    (drafted,) = made.by(Source.DRAFT)
    (candidate,) = drafted.candidates
    assert asked == [((*START.token_ids, *candidate.token_ids), JudgePrompt.SCORE.question)]


# --- ConfSpec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [
        # The draft is sure that steps 0 and 2 are right, and that step 4 is wrong. The target judges steps 1 and 3.
        (0.9, (True, True, True, True, False)),
        (0.96, (True, True, False, True, False)),  # the target has step 2 now, and step 0, which it keeps
        (1.0, (True, True, False, True, False)),  # never sure: SpecReason
        (0.6, (True, True, True, False, False)),  # the draft decides against step 3
    ],
)
async def test_conf_spec_follows_its_exact_law(threshold: float, kept: Sequence[bool]) -> None:
    """Abstract: "high-confidence draft decisions to be accepted directly while selectively escalating uncertain cases".

    The probability that the draft keeps steps 0 to 4 is 0.95, 0.5, 0.92, 0.3 and 0.03.
    """
    params = Params(method="conf-spec", confidence_threshold=threshold)
    assert_drawn_from(exact.judged(WORLD, kept), outcomes(await steps_of(params)))


async def test_the_target_is_asked_only_where_the_draft_is_unsure() -> None:
    """Each step says who judged it; a decision of the draft costs the target nothing, unless it is against the step."""
    made = [await make_first_round(Params(method="conf-spec"), WORLD.ports(), seed) for seed in range(300)]
    for one in made:
        rejected = one.step.rejected
        y = one.step.token_ids[0] if rejected is None else LETTERS.index(rejected.text)
        judges = [judgement.source for judgement in one.step.judgements]
        assert judges == ([Source.DRAFT, Source.TARGET] if y in {1, 3} else [Source.DRAFT])
        assert (one.num_tokens(Source.TARGET) == 0) == (rejected is None)


@given(st.floats(0, 1), st.floats(0.51, 1))
async def test_a_decision_stands_from_the_threshold_on(right: float, threshold: float) -> None:
    """Either way: an answer of 9 with probability p decides for the step if p reaches it, against it if 1 - p does."""
    world = replace(WORLD, says={source: (peak(9, right),) * 5 for source in Source})
    made = await make_first_round(Params(method="conf-spec", confidence_threshold=threshold), world.ports())
    is_sure = max(right, 1 - right) >= threshold
    assert len(made.step.judgements) == (1 if is_sure else 2)
    if right != 1 - right:
        assert (made.step.outcome is Outcome.ACCEPTED) == (right > 0.5)


# --- What is on record -----------------------------------------------------------------------------------------------


async def test_a_step_keeps_what_was_said_of_it() -> None:
    """Of a step that the target wrote: what was said of the draft's, which it replaces, without a reward."""
    for seed in range(100):
        made = await make_first_round(Params(method="spec-reason"), WORLD.ports(), seed)
        (judgement,) = made.step.judgements
        y = made.step.token_ids[0] if made.step.rejected is None else LETTERS.index(made.step.rejected.text)
        assert judgement.probabilities == WORLD.says[Source.TARGET][y]
        assert (judgement.source, judgement.num_tokens) == (Source.TARGET, 1 + NUM_QUESTION_TOKENS)
        assert made.step.outcome is (Outcome.ACCEPTED if judgement.score >= 7 else Outcome.RESAMPLED)
        assert math.isnan(made.step.reward)
        assert made.step.rejected is None or math.isnan(made.step.rejected.reward)


async def test_judging_is_part_of_the_seconds_of_a_step() -> None:
    """The draft's proposal lasts until the last judgement of it."""
    made = await make_first_round(Params(method="conf-spec", confidence_threshold=1.0), WORLD.ports())
    seconds = made.proposals[0].seconds
    assert seconds["propose"] < seconds["judge by draft"] < seconds["judge by target"] <= made.seconds


# --- Whole answers ---------------------------------------------------------------------------------------------------

TURNING = replace(WORLD, turns=True, ends=frozenset({3}))


async def write(params: Params, ports: Ports, seed: int = 1, **more: Any) -> tuple[Any, list[Round]]:
    rounds: list[Round] = []

    async def keep(made: Round) -> None:
        rounds.append(made)

    return await generate(START, params, ports, seed, keep=keep, max_length=1000, **more), rounds


@pytest.mark.parametrize("method", ["spec-reason", "conf-spec"])
async def test_an_answer_goes_on_after_a_kill_as_if_there_had_been_none(method: str) -> None:
    """From every kept step on: the rest depends on the kept steps and the seed alone."""
    params = Params(method=method, stop=StopRules(max_steps=12))
    for seed in range(10):
        whole, rounds = await write(params, TURNING.ports(), seed)
        for num_kept in range(len(rounds)):
            kept = [made.branches for made in rounds[:num_kept]]
            again, _ = await write(params, TURNING.ports(), seed, kept=kept)
            assert repr(again) == repr(whole)  # where NaN equals NaN


@pytest.mark.parametrize("method", ["spec-reason", "conf-spec"])
async def test_lookahead_changes_nothing(method: str) -> None:
    """The draft has one candidate, so nobody is left to write behind while scores come in."""
    params = Params(method=method, stop=StopRules(max_steps=12))
    lookahead = Lookahead(lambda: True, lambda fate: pytest.fail(f"written ahead: {fate}"))
    for seed in range(10):
        ahead, _ = await write(params, TURNING.ports(), seed, lookahead=lookahead)
        assert repr(ahead) == repr((await write(params, TURNING.ports(), seed))[0])


class Short:
    """A judge whose context ends after so many tokens of a prefix."""

    def __init__(self, own: Any, most: int) -> None:
        self._own, self._most = own, most

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        if len(prefix) > self._most:
            raise NoRoomError("no room for the question", self._most)
        found: LabelProbabilities = await self._own.judge(prefix, question)
        return found


async def test_an_answer_ends_where_the_judge_has_no_room() -> None:
    """As where the PRM has none: with the steps before it; without a step there is no answer."""
    ports = WORLD.ports()
    params = Params(method="spec-reason", stop=StopRules(max_steps=12))
    for most, num_steps in ((4, 3), (2, 1)):
        short = replace(ports, judges={Source.TARGET: Short(ports.judges[Source.TARGET], most)})
        (answer, reason), _ = await write(params, short)
        assert (len(answer.steps), reason) == (num_steps, StopReason.MAX_TOKENS)
    with pytest.raises(NoRoomError):
        await write(params, replace(ports, judges={Source.TARGET: Short(ports.judges[Source.TARGET], 1)}))
