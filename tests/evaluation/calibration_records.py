"""Records of jobs in enumerable worlds, for calibration and theory: Algorithm 1 itself makes every step."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from gsi.algorithm.candidates import FinishReason, Outcome, Source
from gsi.algorithm.params import Params
from gsi.evaluation.records import RecordedJob, RecordedModel
from gsi.jobs.state import JobState
from gsi.jobs.step_record import CandidateRecord, ProposalRecord, StepRecord
from tests.algorithm.worlds import START, World, make_first_round

MODELS = {"draft": 10, "target": 100, "prm": 50}  # parameters


async def recorded_jobs(
    world: World,
    params: Params,
    num_problems: int,
    num_steps: int = 1,
    models: Mapping[str, int | None] = MODELS,
) -> list[RecordedJob]:
    """Return a job of ``num_steps`` steps for each problem."""
    return [await _recorded_job(world, params, number, num_steps, models) for number in range(num_problems)]


def jobs_with_log_ratios(log_ratios: Sequence[Sequence[float]]) -> list[RecordedJob]:
    """Return a job of one accepted step for each row of log ratios (nats), whose candidates all have reward 0.5."""
    return [_job(number, Params(n=len(row)), [_accepted_step(row)], MODELS) for number, row in enumerate(log_ratios)]


async def _recorded_job(
    world: World, params: Params, number: int, num_steps: int, models: Mapping[str, int | None]
) -> RecordedJob:
    trajectory, ports, steps = START, world.ports(), []
    for _ in range(num_steps):
        made = await make_first_round(params, ports, number, trajectory)
        trajectory = trajectory.extend(made.step)
        steps.append(StepRecord.from_round(made, keep_candidates=True))
    return _job(number, params, steps, models)


def _job(number: int, params: Params, steps: Sequence[StepRecord], models: Mapping[str, int | None]) -> RecordedJob:
    return RecordedJob(
        id=f"job-{number}",
        problem=f"problem-{number}",
        prompt="Which letter comes next?",
        expected="a",
        label="gsi",
        n=params.n,
        seed=0,
        state=JobState.SUCCEEDED,
        is_correct=True,
        is_correct_strict=True,
        params=asdict(params) | {"method": params.method, "seed": number, "likelihood": "sampling"},
        models={role: RecordedModel(model=role, num_parameters=size) for role, size in models.items()},
        steps=tuple(steps),
    )


def _accepted_step(log_ratios: Sequence[float]) -> StepRecord:
    drafted = -500.0  # so low that the target's likelihood stays below 1
    candidates = tuple(
        CandidateRecord(
            token_ids=(0,),
            text="a",
            finish_reason=FinishReason.DELIMITER,
            log_likelihood=drafted,
            log_likelihood_target=drafted + log_ratio,
            reward=0.5,
        )
        for log_ratio in log_ratios
    )
    return StepRecord(
        index=0,
        token_ids=(0,),
        text="a",
        source=Source.DRAFT,
        outcome=Outcome.ACCEPTED,
        finish_reason=FinishReason.DELIMITER,
        draft_tokens=len(candidates),
        target_tokens=0,
        seconds=1.0,
        proposals=(ProposalRecord(source=Source.DRAFT, selected=0, seconds={}, candidates=candidates),),
    )
