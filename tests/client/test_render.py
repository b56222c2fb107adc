"""How a step looks on a terminal."""

import pytest

from gsi.algorithm.candidates import FinishReason, Outcome, Source
from gsi.cli.render import render_step
from gsi.jobs.step_record import JudgementRecord, RejectionRecord, StepRecord

STEP = StepRecord(
    index=0,
    token_ids=(1, 2),
    text="Then it is 5.\n\n",
    source=Source.DRAFT,
    outcome=Outcome.ACCEPTED,
    finish_reason=FinishReason.DELIMITER,
    reward=0.9,
    best_reward=0.9,
    tilted_reward=0.75,
    draft_tokens=2,
    target_tokens=0,
    seconds=0.1,
)
JUDGED = STEP.model_copy(
    update={
        "reward": None,
        "tilted_reward": None,
        "judgements": (JudgementRecord(source=Source.TARGET, probabilities=(0.2, 0.8), score=8.0, num_tokens=30),),
    }
)
REWRITTEN = JUDGED.model_copy(
    update={
        "source": Source.TARGET,
        "outcome": Outcome.RESAMPLED,
        "rejected": RejectionRecord(text="Then it is 6.\n\n", reward=float("nan"), log_likelihood_draft=-1.0),
    }
)


@pytest.mark.parametrize(
    ("step", "lines"),
    [
        (STEP, ["  1  draft   accepted   reward 0.90  tilted  0.75  Then it is 5."]),
        (JUDGED, ["  1  draft   accepted   score  8.00  by target     Then it is 5."]),
        (
            REWRITTEN,
            [
                "  1  draft   rejected   score  8.00  by target     Then it is 6.",
                "  1  target  resampled  reward   -   tilted   -    Then it is 5.",
            ],
        ),
    ],
    ids=["rated", "judged", "judged and written again"],
)
def test_a_step_has_a_line_with_what_was_said_of_it(step: StepRecord, lines: list[str]) -> None:
    """Rewards, or the score of a judge, which belongs to the draft's candidate."""
    shown = [line.rstrip() for line in render_step(step).plain.splitlines()]
    assert shown == lines
