"""Lists that a report has beside its rows: jobs that failed, graders that disagree, rewards of steps, models."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Outcome, Source
from gsi.evaluation.costs import ROLES
from gsi.evaluation.estimates import Estimate, bootstrap_mean
from gsi.evaluation.figures import can_reject, find_place, group_jobs
from gsi.evaluation.records import Evaluation, RecordedJob, RecordedModel
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord


@dataclass(frozen=True, slots=True)
class StepRewards:
    """Rewards of the steps of a method that can reject, ascending (RSD paper, Figure 3)."""

    accepted: tuple[float, ...]  # of the draft's kept steps
    rejected: tuple[float, ...]  # of the draft's selected candidates that failed the test
    replacement: tuple[float, ...]  # of the target's steps that replaced the rejected candidates


@dataclass(frozen=True, slots=True)
class SourceRewards:
    """Mean rewards of all candidates, the draft's against the target's, at steps for which both wrote.

    The test has rejected the draft's there, so the draft looks worse than over all steps.
    """

    label: str
    n: int
    steps: int
    draft: float
    target: float
    difference: Estimate  # target minus draft; interval over problems


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A job that one grader calls correct and the other wrong."""

    label: str
    n: int
    seed: int
    problem: str
    expected: str
    answer: str | None
    is_correct: bool
    is_correct_strict: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that did not succeed."""

    label: str
    n: int
    seed: int
    problem: str
    state: str
    error: str | None


def list_disagreements(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[Disagreement]:
    """Return the jobs on which the two graders disagree, in the order of the rows."""
    return [
        Disagreement(
            job.label, job.n, job.seed, job.problem, job.expected, job.answer, job.is_correct, job.is_correct_strict
        )
        for job in _sort_jobs(evaluation, jobs)
        if job.is_correct != job.is_correct_strict
    ]


def list_failures(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[Failure]:
    """Return the jobs that did not succeed, in the order of the rows."""
    return [
        Failure(job.label, job.n, job.seed, job.problem, job.state.value, job.error)
        for job in _sort_jobs(evaluation, jobs)
        if job.state is not JobState.SUCCEEDED
    ]


def collect_rewards(evaluation: Evaluation, jobs: Iterable[RecordedJob]) -> dict[str, StepRewards]:
    """Return the finite rewards of each label that can reject, over all its n."""
    able = [job for job in jobs if can_reject(job.params.get("method"))]
    groups = group_jobs(able, lambda job: (find_place(evaluation, job.label), job.label, 0))
    return {label: _collect_rewards_of_label(of_label) for (_, label, _), of_label in groups.items()}


def _collect_rewards_of_label(jobs: Iterable[RecordedJob]) -> StepRewards:
    steps = [step for job in jobs for step in job.steps]
    resampled = [step for step in steps if step.outcome is Outcome.RESAMPLED]
    drafted = [p for step in resampled for p in step.proposals if p.source is Source.DRAFT]
    return StepRewards(
        accepted=_sort_finite(step.reward for step in steps if step.outcome is Outcome.ACCEPTED),
        rejected=_sort_finite(p.candidates[p.selected].reward for p in drafted if p.selected is not None),
        replacement=_sort_finite(step.reward for step in resampled),
    )


def compare_rewards(evaluation: Evaluation, jobs: Iterable[RecordedJob]) -> list[SourceRewards]:
    """Compare the two models' rewards step by step, for each row that has steps with candidates of both."""
    groups = group_jobs(jobs, lambda job: (find_place(evaluation, job.label), job.label, job.n))
    return [made for of_row in groups.values() if (made := _compare_rewards_of_row(of_row)) is not None]


def _compare_rewards_of_row(jobs: Sequence[RecordedJob]) -> SourceRewards | None:
    pairs = [
        (job.problem, pair) for job in jobs for step in job.steps if (pair := _average_by_source(step)) is not None
    ]
    if not pairs:
        return None
    return SourceRewards(
        label=jobs[0].label,
        n=jobs[0].n,
        steps=len(pairs),
        draft=statistics.fmean(draft for _, (draft, _) in pairs),
        target=statistics.fmean(target for _, (_, target) in pairs),
        difference=bootstrap_mean([target - draft for _, (draft, target) in pairs], [problem for problem, _ in pairs]),
    )


def _average_by_source(step: StepRecord) -> tuple[float, float] | None:
    """Return the mean rewards of a step's draft and target candidates; None if either has none."""
    rewards = {
        source: _sort_finite(c.reward for p in step.proposals if p.source is source for c in p.candidates)
        for source in (Source.DRAFT, Source.TARGET)
    }
    if not all(rewards.values()):
        return None
    return statistics.fmean(rewards[Source.DRAFT]), statistics.fmean(rewards[Source.TARGET])


def _sort_finite(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(sorted(value for value in values if value is not None and math.isfinite(value)))


def list_models(jobs: Iterable[RecordedJob]) -> dict[str, list[RecordedModel]]:
    """Return the distinct models of each role: one model, unless the evaluation was resumed with another."""
    found = {(role, model) for job in jobs for role, model in job.models.items()}
    return {
        role: sorted((model for of, model in found if of == role), key=str)
        for role in ROLES
        if any(of == role for of, _ in found)
    }


def list_routers(jobs: Iterable[RecordedJob]) -> list[str]:
    """Return the digests of the files of the routers that decided in jobs: one, where a method asks a router."""
    return sorted({job.router for job in jobs if job.router})


def _sort_jobs(evaluation: Evaluation, jobs: Iterable[RecordedJob]) -> list[RecordedJob]:
    """Return the jobs in the order of the rows."""
    return sorted(jobs, key=lambda job: (find_place(evaluation, job.label), job.label, job.n, job.seed, job.problem))
