"""Over whole responses the PRM rates what a score is made of, and nothing else about an answer changes by that."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from gsi.algorithm.candidates import Message, Trajectory
from gsi.algorithm.n_rule import ThresholdRule
from gsi.algorithm.params import Aggregate, Params, Scope, StopRules
from gsi.algorithm.ports import NoRoomError, ScoreBatches, StepText, TextBatches
from gsi.algorithm.stopping import JobRules, StopReason
from gsi.evaluation.costs import count_tokens
from gsi.jobs.step_record import StepRecord
from tests.algorithm.searching import WORLD, Written, write
from tests.algorithm.worlds import EnumerablePrm
from tests.evaluation.made_records import job

PARAMS = Params(method="best-of-n", scope=Scope.RESPONSES, n=6, beta=2.0, stop=StopRules(max_steps=5))
METHODS_OF_RESPONSES = ["best-of-n", "soft-best-of-n", "gsi", "gsi-no-rejection"]


@dataclass
class CountingPrm(EnumerablePrm):
    """It writes down how many calls there were, and which prefixes and candidates it read."""

    num_calls: int = 0
    rated: list[str] = field(default_factory=list)

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        self.num_calls += 1

        async def noting() -> TextBatches:
            async for batch in candidates:
                self.rated += ["".join(steps) + candidate.text for candidate in batch]
                yield batch

        async for batch in super().score(messages, steps, noting()):
            yield batch


async def write_counting(params: Params, seed: int = 1) -> tuple[Written, CountingPrm]:
    prm = CountingPrm(WORLD)
    return await write(params, replace(WORLD.ports(), prm=prm), seed), prm


def begun(written: Written, params: Params) -> list[Trajectory]:
    return [one for one in written.populations(params)[-1] if one.steps]


def decided_by(written: Written, params: Params) -> list[tuple[str, float, list[float | None]]]:
    """Return all that a choice among the responses reads: texts, scores, and the target's likelihoods."""
    return [
        (one.text, one.steps[-1].reward, [step.log_likelihood_target for step in one.steps])
        for one in begun(written, params)
    ]


# --- What is asked ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS_OF_RESPONSES)
async def test_a_response_is_rated_once_when_it_ends(method: str) -> None:
    """By aggregate ``last``: one rating for each response, of its whole text, and no call for a step in the middle."""
    params = replace(PARAMS, method=method)
    for seed in range(10):
        written, prm = await write_counting(params, seed)
        responses = begun(written, params)
        assert Counter(prm.rated) == Counter(one.text for one in responses)
        assert prm.num_calls <= len(responses) < sum(len(one.steps) for one in responses)
        for one in responses:
            assert [math.isnan(step.reward) for step in one.steps] == [True] * (len(one.steps) - 1) + [False]


@pytest.mark.parametrize("aggregate", [Aggregate.MINIMUM, Aggregate.PRODUCT])
async def test_a_score_of_all_steps_asks_about_all_steps(aggregate: Aggregate) -> None:
    """And so does a reward floor, by which any step may end its response."""
    for params in (replace(PARAMS, aggregate=aggregate), replace(PARAMS, stop=StopRules(5, reward_floor=-1.0))):
        written, prm = await write_counting(params)
        assert len(prm.rated) == sum(len(one.steps) for one in begun(written, params))


async def test_a_method_that_reads_every_reward_asks_about_every_step() -> None:
    """Whatever its job says of scope and aggregate, which it does not read."""
    for method in ("speculative-rejection", "particle-filter", "beam-search"):
        written, prm = await write_counting(replace(PARAMS, method=method))
        assert len(prm.rated) == sum(len(p.candidates) for made in written.rounds for p in made.proposals)


async def test_where_the_prms_context_may_become_small_every_step_is_rated() -> None:
    """A prompt of one token, a token and a mark for each step: k steps are 1 + 2k, and twice that must have room."""
    params = replace(PARAMS, stop=StopRules(max_steps=5, prm_max_length=14))
    long = 0
    for seed in range(20):
        written, _ = await write_counting(params, seed)
        for one in begun(written, params):
            *before, _ = one.steps
            assert [math.isnan(step.reward) for step in before] == [True, True, True, False][: len(before)]
            long += len(before) == 4
    assert long > 10


# --- What it changes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS_OF_RESPONSES)
@pytest.mark.parametrize("n_rule", [None, ThresholdRule(0.6)])
async def test_every_answer_is_the_one_that_all_ratings_give(
    method: str, n_rule: ThresholdRule | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tokens, scores and choice for each seed: so the law is the same, to the last bit."""
    params = replace(PARAMS, method=method, n_rule=n_rule)
    some = [(await write_counting(params, seed))[0] for seed in range(40)]
    monkeypatch.setattr(JobRules, "is_end", None)  # nobody knows before the rewards are there
    for seed, one in enumerate(some):
        whole, prm = await write_counting(params, seed)
        assert len(prm.rated) == sum(len(each.steps) for each in begun(whole, params))
        assert (one.answer.text, one.reason) == (whole.answer.text, whole.reason)
        assert decided_by(one, params) == decided_by(whole, params)


class FinePrm(EnumerablePrm):
    """A PRM of 12 tokens that reads a letter as two of them, and has a prompt of one and a mark behind each step."""

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        async for batch in candidates:
            if 1 + 3 * (len(steps) + 1) > 12:
                raise NoRoomError("too long")
            async for scores in super().score(messages, steps, _one_batch(batch)):
                yield scores


async def _one_batch(batch: Sequence[StepText]) -> TextBatches:
    yield batch


@pytest.mark.parametrize("method", METHODS_OF_RESPONSES)
async def test_a_response_without_room_to_go_on_has_its_score(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its step before was rated, though nobody knew that it was the last; so the answer is that of all ratings."""
    params = replace(PARAMS, method=method, stop=StopRules(max_steps=9, prm_max_length=12))
    ports = replace(WORLD.ports(), prm=FinePrm(WORLD))
    some = [await write(params, ports, seed) for seed in range(20)]
    assert {one.reason for one in some} >= {StopReason.MAX_TOKENS, StopReason.EOS}
    monkeypatch.setattr(JobRules, "is_end", None)
    for seed, one in enumerate(some):
        whole = await write(params, ports, seed)
        assert (one.answer.text, one.reason) == (whole.answer.text, whole.reason)
        assert decided_by(one, params) == decided_by(whole, params)


# --- What is on record --------------------------------------------------------------------------------------------


async def test_a_record_says_what_was_rated() -> None:
    """No reward where the PRM was not asked, which NaN would not say; the tokens are those that it had to read."""
    written, prm = await write_counting(replace(PARAMS, method="gsi"))
    records = [StepRecord.from_round(made, keep_candidates=True, index=k) for k, made in enumerate(written.rounds)]
    rewards = [c.reward for record in records for p in record.proposals for c in p.candidates]
    assert sum(reward is not None for reward in rewards) == len(prm.rated) < len(rewards)
    num_read = sum(len(text) for text in prm.rated)  # a token is a letter here
    assert sum(record.num_rated_tokens for record in records) == num_read
    assert count_tokens(job(label="gsi:responses", steps=records)).prm_rated == num_read
    assert all(StepRecord.from_json(record.to_json()) == record for record in records)


async def test_a_record_of_a_method_that_rates_all_is_as_it_was() -> None:
    """Without the number: what is absent has a meaning, also in records of older releases."""
    params = replace(PARAMS, aggregate=Aggregate.MINIMUM)
    written, _ = await write_counting(params)
    for made in written.rounds:
        record = StepRecord.from_round(made, keep_candidates=False)
        assert "prm_tokens" not in record.to_dict()
        assert record.num_rated_tokens == record.draft_tokens == made.num_rated_tokens
    unrated, _ = await write_counting(replace(PARAMS, method="majority-vote"))
    assert [StepRecord.from_round(made, keep_candidates=False).num_rated_tokens for made in unrated.rounds] == [
        0 for _ in unrated.rounds
    ]
