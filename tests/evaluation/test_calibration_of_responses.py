"""Calibration of GSI over whole responses: a record has every response's reward and likelihoods, so any u and beta."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.params import Aggregate, Params, Scope, StopRules
from gsi.errors import InvalidRequestError
from gsi.evaluation.calibration import CalibrationRow, Setting, calibrate
from gsi.evaluation.draft_proposals import read_draft_proposals
from gsi.evaluation.records import RecordedJob, RecordedModel
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from tests.algorithm import exact
from tests.algorithm.searching import UNREAD, write
from tests.algorithm.test_one_shot import WORLD, of_responses

NUM_PROBLEMS = 300
PARAMS = Params(
    method="gsi", scope=Scope.RESPONSES, n=3, beta=2.0, acceptance_threshold=0.5, stop=StopRules(max_steps=2)
)


async def records_of(params: Params) -> list[RecordedJob]:
    """Return a job for each problem, as an evaluation keeps it."""
    found = []
    for seed in range(NUM_PROBLEMS):
        written = await write(params, WORLD.ports(), seed, answers=UNREAD)
        steps = tuple(StepRecord.from_round(made, keep_candidates=True) for made in written.rounds)
        found.append(
            RecordedJob(
                id=str(seed),
                problem=str(seed),
                prompt="Which letters?",
                expected="a",
                label="gsi",
                n=params.n,
                seed=0,
                state=JobState.SUCCEEDED,
                is_correct=True,
                is_correct_strict=True,
                params=asdict(params) | {"seed": seed, "likelihood": "sampling"},
                models={role: RecordedModel(model=role, num_parameters=1) for role in ("draft", "target", "prm")},
                steps=steps,
            )
        )
    return found


def row_of(records: Sequence[RecordedJob], setting: Setting) -> CalibrationRow:
    rows = calibrate(records, [setting.beta], [setting.acceptance_threshold], [setting.n]).rows
    return next(row for row in rows if row.setting == setting)


@pytest.mark.parametrize("aggregate", [Aggregate.LAST, Aggregate.MINIMUM])
@pytest.mark.parametrize("setting", [Setting(2.0, 0.5, 3), Setting(2.0, 0.9, 3), Setting(6.0, 0.4, 2)])
async def test_acceptance_is_that_of_algorithm_1_over_responses(aggregate: Aggregate, setting: Setting) -> None:
    """At the recorded setting and at others; a response is one step, however many steps it has."""
    row = row_of(await records_of(replace(PARAMS, aggregate=aggregate)), setting)
    law = exact.algorithm_1(of_responses(aggregate), setting.beta, setting.acceptance_threshold, setting.n, setting.n)
    accepted = math.fsum(p for (source, _), p in law.items() if source is Source.DRAFT)
    assert row.num_steps == NUM_PROBLEMS
    assert abs(row.acceptance.value - accepted) < 4 * math.sqrt(accepted * (1 - accepted) / NUM_PROBLEMS)


async def test_the_recorded_setting_repeats_what_was_done() -> None:
    """No response and no outcome would differ from the record, and nothing is left out."""
    records = await records_of(PARAMS)
    grid = calibrate(records, [PARAMS.beta], [PARAMS.acceptance_threshold])
    (recorded,) = [row for row in grid.rows if row.is_recorded]
    assert (recorded.changed_share, grid.num_left_out) == (0.0, 0)
    kept = [all(step.outcome is Outcome.ACCEPTED for step in job.steps) for job in records]
    assert [one.is_accepted for one in read_draft_proposals(records)] == kept
    assert {True, False} == set(kept)


async def test_steps_and_responses_are_not_mixed() -> None:
    """Their figures are of different things."""
    responses = (await records_of(PARAMS))[:1]
    steps = [job.model_copy(update={"params": {**job.params, "scope": "steps"}}) for job in responses]
    with pytest.raises(InvalidRequestError, match="records: of several settings"):
        calibrate([*responses, *steps])
