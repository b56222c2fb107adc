"""A kept step survives its way through Redis."""

import json
import math

import pytest

from gsi.algorithm.candidates import Branch, Candidate, FinishReason, Outcome, Rejected, Source, Step
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, Scope, StopRules
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.jobs.step_record import StepRecord
from tests.algorithm.searching import WORLD, write
from tests.algorithm.worlds import World, make_first_round

STEP = Step(
    index=2,
    token_ids=(5, 6, 7),
    text="Step 3: 4 * 5 = 20\n\n",
    source=Source.TARGET,
    outcome=Outcome.RESAMPLED,
    finish_reason=FinishReason.DELIMITER,
    reward=0.1 + 0.2,  # a double without a short decimal form
    best_reward=0.75,
    log_likelihood_target=-1.25,
    rejected=Rejected("Step 3: 4 * 5 = 9\n\n", 0.01, -0.2, -3.5, -7.0),
)


def test_a_step_is_read_back_as_it_was_written() -> None:
    """Every field, to the last bit."""
    record = StepRecord(STEP, draft_tokens=32, target_tokens=30, seconds=0.25)
    assert StepRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_know_becomes_null(value: float) -> None:
    """Readers in other languages get JSON, not Python's dialect of it."""
    impossible = Rejected("x", 0.5, value, -1.0, value)
    step = Step(0, (1,), "x", Source.TARGET, Outcome.RESAMPLED, FinishReason.EOS, 0.5, 0.5, rejected=impossible)
    written = json.loads(StepRecord(step, 1, 1, 0.1).to_json())
    assert written["rejected"]["tilted_reward"] is None
    assert written["rejected"]["log_likelihood_target"] is None


def test_a_reward_that_was_not_a_number_is_one_again() -> None:
    """Resumption sees the same NaN that the stop rules saw before."""
    step = Step(0, (1,), "x", Source.TARGET, Outcome.RESAMPLED, FinishReason.EOS, math.nan, -math.inf)
    read = StepRecord.from_json(StepRecord(step, 1, 1, 0.1).to_json()).step
    assert math.isnan(read.reward)
    assert math.isnan(read.best_reward)


# --- Rounds of several trajectories -------------------------------------------------------------------------------

CANDIDATES = (
    Candidate(0, (5, 6), "ab", -0.5, FinishReason.DELIMITER),
    Candidate(1, (7,), "c", -1.5, FinishReason.EOS),
)
PROPOSAL = Proposal(
    Source.DRAFT,
    CANDIDATES,
    scores={"prm": [math.nan, 0.75], "target": [-math.inf, -2.5]},
    seconds={"propose": 0.1, "prm": 0.25, "target": 0.2},
    selected=1,
    parent=3,
)
LEADING = Step(0, (7,), "c", Source.DRAFT, Outcome.ACCEPTED, FinishReason.EOS, 0.75, 0.75)
SECOND = Step(4, (8,), "d", Source.DRAFT, Outcome.ACCEPTED, FinishReason.DELIMITER, math.nan, -math.inf)
ROUND = Round((Branch(2, None), Branch(3, LEADING), Branch(3, SECOND)), (PROPOSAL,))


def test_a_step_of_the_only_trajectory_has_no_branches() -> None:
    """Most methods: the record is that step, as it has always been."""
    record = StepRecord.of(Round((Branch(0, LEADING),), (PROPOSAL,)), keep_candidates=False)
    assert record.branches == ()
    assert record.round == (Branch(0, LEADING),)
    assert not {"branches", "proposals"} & json.loads(record.to_json()).keys()


def test_a_round_of_several_trajectories_is_led_by_its_first_new_step() -> None:
    """A follower that knows nothing of branches sees that one, with the tokens of all."""
    record = StepRecord.of(ROUND, keep_candidates=False)
    assert record.step == LEADING
    assert (record.draft_tokens, record.target_tokens, record.seconds) == (3, 0, 0.25)
    assert [branch["parent"] for branch in json.loads(record.to_json())["branches"]] == [2, 3, 3]


def test_a_round_is_read_back_as_it_was_written() -> None:
    """Who continues whom, who is finished, and every step; NaN is null in JSON and NaN again."""
    read = StepRecord.from_json(StepRecord.of(ROUND, keep_candidates=False).to_json())
    assert [branch.parent for branch in read.round] == [2, 3, 3]
    carried, leading, second = (branch.step for branch in read.round)
    assert (carried, leading) == (None, LEADING)
    assert second is not None
    assert math.isnan(second.reward)
    assert second.token_ids == SECOND.token_ids
    assert isinstance(second.finish_reason, FinishReason)


@pytest.mark.parametrize("step", [LEADING, STEP])
def test_a_trajectory_that_continues_another_place_is_a_branch(step: Step) -> None:
    """Only place 0 out of place 0 goes without saying."""
    record = StepRecord.of(Round((Branch(1, step),), (PROPOSAL,)), keep_candidates=False)
    assert StepRecord.from_json(record.to_json()).round == (Branch(1, step),)


def test_kept_candidates_have_every_number() -> None:
    """Both likelihoods and the reward of each; here infinities and NaN are words, since a null would not say which."""
    kept = json.loads(StepRecord.of(ROUND, keep_candidates=True).to_json())["proposals"]
    assert kept == [
        {
            "source": "draft",
            "parent": 3,
            "selected": 1,
            "seconds": {"propose": 0.1, "prm": 0.25, "target": 0.2},
            "candidates": [
                {
                    "token_ids": [5, 6],
                    "text": "ab",
                    "finish_reason": "delimiter",
                    "log_likelihood": -0.5,
                    "reward": "NaN",
                    "log_likelihood_target": "-Infinity",
                },
                {
                    "token_ids": [7],
                    "text": "c",
                    "finish_reason": "eos",
                    "log_likelihood": -1.5,
                    "reward": 0.75,
                    "log_likelihood_target": -2.5,
                },
            ],
        }
    ]


def test_what_was_not_asked_is_not_on_record() -> None:
    """No reward without a PRM, no likelihood of a model that did not read."""
    bare = Proposal(Source.TARGET, CANDIDATES, scores={}, seconds={"propose": 0.1})
    (kept,) = StepRecord.of(Round((Branch(0, LEADING),), (bare,)), keep_candidates=True).proposals
    assert all(set(c) == {"token_ids", "text", "finish_reason", "log_likelihood"} for c in kept["candidates"])


def test_kept_candidates_come_back_as_they_were_written() -> None:
    """Written again they are the same JSON."""
    text = StepRecord.of(ROUND, keep_candidates=True).to_json()
    assert StepRecord.from_json(text).to_json() == text


ALL = [Params(method=method, n=4, stop=StopRules(max_steps=3)) for method in METHODS]


@pytest.mark.parametrize("params", [*ALL, Params(method="best-of-n", scope=Scope.RESPONSES, n=4)])
async def test_every_round_of_every_method_survives_json(params: Params) -> None:
    """Read back, it is the round from which the search goes on."""
    written = await write(params, WORLD.ports())
    for made in written.rounds:
        read = StepRecord.from_json(StepRecord.of(made, keep_candidates=True).to_json())
        assert repr(read.round) == repr(made.branches)  # where NaN equals NaN
        assert len(read.proposals) == len(made.proposals)


async def test_a_step_that_nobody_rated_has_null_for_its_rewards() -> None:
    """The draft alone asks no PRM."""
    made = await make_first_round(Params(method="draft"), World((1.0,), (1.0,), (0.5,)).ports())
    written = json.loads(StepRecord.of(made, keep_candidates=False).to_json())
    assert (written["reward"], written["best_reward"]) == (None, None)
