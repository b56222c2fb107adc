"""A kept step survives its way through Redis."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gsi.algorithm.candidates import Branch, Candidate, FinishReason, Outcome, Rejected, Source, Step
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, Scope, StopRules
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import StopReason, stop_reason
from gsi.jobs.step_record import ProposalRecord, StepRecord
from tests.algorithm.searching import WORLD, write
from tests.algorithm.worlds import START, World, make_first_round

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "docs" / "step.schema.json").read_text()))

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


def record_of(step: Step) -> StepRecord:
    return StepRecord.from_step(step, draft_tokens=32, target_tokens=30, seconds=0.25)


def read_again(record: StepRecord) -> StepRecord:
    return StepRecord.from_json(record.to_json())


def unrated(reward: float, best_reward: float, **others: Any) -> Step:
    return Step(0, (1,), "x", Source.DRAFT, Outcome.ACCEPTED, FinishReason.EOS, reward, best_reward, **others)


def test_a_step_is_read_back_as_it_was_written() -> None:
    """Every field, to the last bit."""
    record = record_of(STEP)
    assert read_again(record) == record
    assert read_again(record).to_step() == STEP


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_a_number_that_json_does_not_know_becomes_a_word(value: float, word: str) -> None:
    """Readers in other languages get JSON, not Python's dialect of it, and no number is lost."""
    impossible = Rejected("x", 0.5, value, -1.0, value)
    step = unrated(value, -math.inf, tilted_reward=value, rejected=impossible)
    text = record_of(step).to_json()
    written = json.loads(text, parse_constant=pytest.fail)
    assert (written["reward"], written["best_reward"], written["tilted_reward"]) == (word, "-Infinity", word)
    assert (written["rejected"]["tilted_reward"], written["rejected"]["log_likelihood_target"]) == (word, word)
    assert repr(StepRecord.from_json(text).to_step()) == repr(step)


def test_a_reward_that_was_not_a_number_is_one_again() -> None:
    """Resumption sees the same NaN that the stop rules saw before."""
    read = read_again(record_of(unrated(math.nan, -math.inf))).to_step()
    assert math.isnan(read.reward)
    assert read.best_reward == -math.inf


# --- Any round ----------------------------------------------------------------------------------------------------

numbers = st.floats()  # -inf, inf and NaN are among them
texts = st.text(max_size=5)
tokens = st.lists(st.integers(0, 300_000), min_size=1, max_size=3).map(tuple)
rejections = st.builds(
    Rejected,
    text=texts,
    reward=numbers,
    tilted_reward=st.none() | numbers,
    log_likelihood_draft=numbers,
    log_likelihood_target=st.none() | numbers,
)
any_steps = st.builds(
    Step,
    index=st.integers(0, 100),
    token_ids=tokens,
    text=texts,
    source=st.sampled_from(Source),
    outcome=st.sampled_from(Outcome),
    finish_reason=st.sampled_from(FinishReason),
    reward=numbers,
    best_reward=numbers,
    tilted_reward=st.none() | numbers,
    log_likelihood_draft=st.none() | numbers,
    log_likelihood_target=st.none() | numbers,
    rejected=st.none() | rejections,
)


@st.composite
def any_proposals(draw: st.DrawFn) -> Proposal:
    num_candidates = draw(st.integers(1, 3))
    scorers = draw(st.sets(st.sampled_from(["prm", "target"])))
    scores = {name: draw(st.lists(numbers, min_size=num_candidates, max_size=num_candidates)) for name in scorers}
    candidates = tuple(
        Candidate(index, draw(tokens), draw(texts), draw(st.floats(-1e9, 0)), draw(st.sampled_from(FinishReason)))
        for index in range(num_candidates)
    )
    seconds = {name: draw(st.floats(0, 1e6)) for name in ("propose", *scorers)}
    selected = draw(st.none() | st.integers(0, num_candidates - 1))
    parent = draw(st.integers(0, 5))
    return Proposal(draw(st.sampled_from(Source)), candidates, scores, seconds, selected=selected, parent=parent)


@st.composite
def any_rounds(draw: st.DrawFn) -> Round:
    leading = Branch(draw(st.integers(0, 5)), draw(any_steps))
    others = draw(st.lists(st.builds(Branch, st.integers(0, 5), st.none() | any_steps), max_size=2))
    finished = draw(st.lists(st.builds(Branch, st.integers(0, 5), st.none()), max_size=1))
    proposals = draw(st.lists(any_proposals(), min_size=1, max_size=2))
    return Round((*finished, leading, *others), tuple(proposals))


@given(any_rounds(), st.booleans())
def test_any_round_is_read_back_as_it_was_written(made: Round, keep_candidates: bool) -> None:
    """Finite numbers to the last bit, infinities and NaN too; and the algorithm gets the branches that it had."""
    record = StepRecord.from_round(made, keep_candidates=keep_candidates)
    read = StepRecord.from_json(record.to_json())
    assert repr(read) == repr(record)  # where NaN equals NaN
    assert read.to_json() == record.to_json()
    assert repr(read.to_branches()) == repr(made.branches)
    assert json.loads(record.to_json(), parse_constant=pytest.fail) == record.to_dict()


@given(any_rounds(), st.booleans())
def test_any_round_fits_the_published_schema(made: Round, keep_candidates: bool) -> None:
    """Readers in other languages find what ``docs/step.schema.json`` says."""
    SCHEMA.validate(StepRecord.from_round(made, keep_candidates=keep_candidates).to_dict())


def test_the_published_schema_refuses_another_spelling() -> None:
    """The test above can fail."""
    assert not SCHEMA.is_valid({**record_of(STEP).to_dict(), "reward": "nan"})


# --- What older versions wrote ------------------------------------------------------------------------------------


def old_json(**changes: Any) -> str:
    """Return a step as versions wrote it that had null for every number that is not finite."""
    rejected = {**record_of(STEP).to_dict()["rejected"], "reward": None, "tilted_reward": None}
    return json.dumps({**record_of(STEP).to_dict(), "rejected": rejected, **changes})


@pytest.mark.parametrize("field", ["reward", "best_reward", "tilted_reward", "log_likelihood_target"])
def test_an_older_null_is_read(field: str) -> None:
    """As not asked; of a rejected candidate's reward, which is always asked, as NaN."""
    read = StepRecord.from_json(old_json(**{field: None}))
    assert getattr(read, field) is None
    assert read.rejected is not None
    assert math.isnan(read.rejected.reward)
    assert (read.rejected.tilted_reward, read.rejected.log_likelihood_target) == (None, -7.0)


def test_a_job_stops_by_an_older_null_as_it_did() -> None:
    """A best reward of -inf was null: it lies below any floor, before and after."""
    step = StepRecord.from_json(old_json(reward=None, best_reward=None)).to_step()
    rules = StopRules(reward_floor=-100.0)
    assert stop_reason(START.extend(step), rules, lambda _: False, 1000) is StopReason.LOW_REWARD


def test_a_field_of_a_newer_version_is_ignored() -> None:
    """While a new version is rolled out, both read what either writes."""
    assert StepRecord.from_json(old_json(some_day=1)).index == STEP.index


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
    record = StepRecord.from_round(Round((Branch(0, LEADING),), (PROPOSAL,)), keep_candidates=False)
    assert record.branches == ()
    assert record.to_branches() == (Branch(0, LEADING),)
    assert not {"branches", "proposals"} & json.loads(record.to_json()).keys()


def test_a_round_of_several_trajectories_is_led_by_its_first_new_step() -> None:
    """A follower that knows nothing of branches sees that one, with the tokens of all."""
    record = StepRecord.from_round(ROUND, keep_candidates=False)
    assert record.to_step() == LEADING
    assert (record.draft_tokens, record.target_tokens, record.seconds) == (3, 0, 0.25)
    assert [branch["parent"] for branch in json.loads(record.to_json())["branches"]] == [2, 3, 3]


def test_a_round_is_read_back_as_it_was_written() -> None:
    """Who continues whom, who is finished, and every step; NaN is a word in JSON and NaN again."""
    read = StepRecord.from_json(StepRecord.from_round(ROUND, keep_candidates=False).to_json())
    assert [branch.parent for branch in read.to_branches()] == [2, 3, 3]
    carried, leading, second = (branch.step for branch in read.to_branches())
    assert (carried, leading) == (None, LEADING)
    assert second is not None
    assert math.isnan(second.reward)
    assert second.token_ids == SECOND.token_ids
    assert isinstance(second.finish_reason, FinishReason)


@pytest.mark.parametrize("step", [LEADING, STEP])
def test_a_trajectory_that_continues_another_place_is_a_branch(step: Step) -> None:
    """Only place 0 out of place 0 goes without saying."""
    record = StepRecord.from_round(Round((Branch(1, step),), (PROPOSAL,)), keep_candidates=False)
    assert StepRecord.from_json(record.to_json()).to_branches() == (Branch(1, step),)


def test_kept_candidates_have_every_number() -> None:
    """Both likelihoods and the reward of each."""
    kept = json.loads(StepRecord.from_round(ROUND, keep_candidates=True).to_json())["proposals"]
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
    kept = ProposalRecord.from_proposal(bare).to_dict()
    assert all(set(c) == {"token_ids", "text", "finish_reason", "log_likelihood"} for c in kept["candidates"])


def test_kept_candidates_come_back_as_they_were_written() -> None:
    """Written again they are the same JSON."""
    text = StepRecord.from_round(ROUND, keep_candidates=True).to_json()
    assert StepRecord.from_json(text).to_json() == text


ALL = [Params(method=method, n=4, stop=StopRules(max_steps=3)) for method in METHODS]


@pytest.mark.parametrize("params", [*ALL, Params(method="best-of-n", scope=Scope.RESPONSES, n=4)])
async def test_every_round_of_every_method_survives_json(params: Params) -> None:
    """Read back, it is the round from which the search goes on."""
    written = await write(params, WORLD.ports())
    for made in written.rounds:
        read = StepRecord.from_json(StepRecord.from_round(made, keep_candidates=True).to_json())
        assert repr(read.to_branches()) == repr(made.branches)  # where NaN equals NaN
        assert len(read.proposals) == len(made.proposals)


async def test_a_step_that_nobody_rated_has_null_for_its_rewards() -> None:
    """The draft alone asks no PRM."""
    made = await make_first_round(Params(method="draft"), World((1.0,), (1.0,), (0.5,)).ports())
    written = json.loads(StepRecord.from_round(made, keep_candidates=False).to_json())
    assert (written["reward"], written["best_reward"]) == (None, None)
