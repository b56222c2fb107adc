"""A kept step survives its way through Redis."""

import json
import math

import pytest

from gsi.algorithm.candidates import FinishReason, Outcome, Rejected, Source, Step
from gsi.jobs.step_record import StepRecord

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
