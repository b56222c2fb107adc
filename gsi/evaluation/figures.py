"""Every figure of the report, computed from records alone: no model, no clock, no file.

A row is a method at one n, (label, n). "Per problem" means per job: one answer to one problem. Sums and means are
rounded once (``statistics``), so the order of the jobs changes nothing.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Scope
from gsi.evaluation.costs import (
    Tokens,
    average_flops,
    average_tokens,
    estimate_prompt_flops,
    estimate_target_flops,
)
from gsi.evaluation.estimates import Estimate, estimate_difference, estimate_mean, estimate_ratio, estimate_share
from gsi.evaluation.records import Evaluation, RecordedJob
from gsi.jobs.state import JobState

REFERENCE = "soft-best-of-n:target"  # what the other methods approximate
TARGET_ALONE = (("target", 1), (REFERENCE, 1))  # rows in which the target works alone, the preferred row first
K = TypeVar("K", int, str, tuple[int, str, int])  # what jobs are grouped by


def can_reject(method: str | None) -> bool:
    """Return whether a method can reject a step; the acceptance rate of other methods says nothing."""
    return method in METHODS and METHODS[method].can_reject


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, which depend on the machine and the concurrency. None where no job has them on record."""

    seconds_per_step: float | None
    seconds_per_problem: float | None  # from started_at to finished_at


@dataclass(frozen=True, slots=True)
class Row:
    """All figures of one method at one n. Shares and accuracies are in [0, 1]."""

    label: str
    n: int
    params: Mapping[str, Any]  # the parameters that all succeeded jobs share; all jobs, if none succeeded
    problems: int
    seeds: int
    jobs: int
    answered: int  # jobs that succeeded; the figures below are theirs, those of all jobs if there are none
    failures: int  # jobs that did not succeed: no answers, so neither right nor wrong
    failure_reason: str | None  # of the first of them
    accuracy: Estimate  # interval over problems; the seeds of a problem are averaged first; nan if none answered
    strict_accuracy: Estimate  # the same by the strict grader
    accuracy_by_problem: Mapping[str, float]
    accuracy_over_seeds: Estimate  # mean of the seeds' accuracies; interval over seeds
    seeds_standard_deviation: float | None  # of the seeds' accuracies; None for one seed
    acceptance_rate: Estimate | None  # share of steps, interval over problems; None: the method cannot reject
    steps_per_problem: float  # rounds, if the method keeps several trajectories
    tokens_per_problem: Tokens
    flops_per_problem: float | None  # None: not known, see ``estimate_job_flops``
    target_flops_per_problem: float | None  # of the target alone, without the PRM
    prompt_flops_per_problem: float | None  # of reading each prompt once, which ``flops_per_problem`` leaves out
    share_draft_alone: float  # see ``is_by_draft_alone``
    share_draft_alone_correct: float  # share of jobs that are both by the draft alone and correct
    states: Mapping[str, int]
    stop_reasons: Mapping[str, int]
    timings: Timings

    @property
    def method(self) -> str | None:
        return self.params.get("method")

    @property
    def can_reject(self) -> bool:
        return can_reject(self.method)

    @property
    def has_failed(self) -> bool:
        """Whether no job of the row succeeded: the method was not measured."""
        return self.answered == 0

    @property
    def has_none_right(self) -> bool:
        """Whether every answer is wrong: more often a wrong data set or prompt than a bad method."""
        return self.answered > 0 and self.accuracy.value == 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows, over the problems that both have answered."""

    label: str
    n: int
    other_label: str
    other_n: int
    problems: int
    difference: Estimate  # accuracy of the row minus accuracy of the other


def compute_rows(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[Row]:
    """Return a row for each (label, n) that has jobs: labels in the evaluation's order, n ascending."""
    groups = group_jobs(jobs, lambda job: (find_place(evaluation, job.label), job.label, job.n))
    return [_compute_row(evaluation, of_row) for of_row in groups.values()]


def find_place(evaluation: Evaluation, label: str) -> int:
    """Return a label's place in the evaluation's order; a label that was not asked for comes last."""
    return evaluation.labels.index(label) if label in evaluation.labels else len(evaluation.labels)


def _compute_row(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> Row:
    answered = [job for job in jobs if job.state is JobState.SUCCEEDED]
    failed = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    counted = answered or jobs
    by_problem = group_jobs(answered, lambda job: job.problem)
    accuracy_by_problem = _average_accuracy(by_problem)
    accuracies_of_seeds = list(_average_accuracy(group_jobs(answered, lambda job: job.seed)).values())
    strict = [statistics.fmean(job.is_correct_strict for job in of_problem) for of_problem in by_problem.values()]
    alone = [job for job in answered if is_by_draft_alone(job)]
    return Row(
        label=jobs[0].label,
        n=jobs[0].n,
        params=_find_shared_params(counted),
        problems=len({job.problem for job in jobs}),
        seeds=len({job.seed for job in jobs}),
        jobs=len(jobs),
        answered=len(answered),
        failures=len(failed),
        failure_reason=explain_failure(evaluation, failed[0]) if failed else None,
        accuracy=_estimate_share(list(accuracy_by_problem.values()), len(answered)),
        strict_accuracy=_estimate_share(strict, len(answered)),
        accuracy_by_problem=accuracy_by_problem,
        accuracy_over_seeds=estimate_mean(accuracies_of_seeds) if answered else Estimate(math.nan),
        seeds_standard_deviation=statistics.stdev(accuracies_of_seeds) if len(accuracies_of_seeds) > 1 else None,
        acceptance_rate=_estimate_acceptance(group_jobs(counted, lambda job: job.problem).values()),
        steps_per_problem=statistics.fmean(len(job.steps) for job in counted),
        tokens_per_problem=average_tokens(counted),
        flops_per_problem=average_flops(counted),
        target_flops_per_problem=average_flops(counted, estimate_target_flops),
        prompt_flops_per_problem=average_flops(counted, estimate_prompt_flops),
        share_draft_alone=len(alone) / len(counted),
        share_draft_alone_correct=sum(job.is_correct for job in alone) / len(counted),
        states=dict(sorted(Counter(job.state.value for job in jobs).items())),
        stop_reasons=dict(sorted(Counter(job.stop_reason for job in jobs if job.stop_reason is not None).items())),
        timings=_average_timings(counted),
    )


def explain_failure(evaluation: Evaluation, job: RecordedJob) -> str:
    """Return why a job failed; a parameter that a coordinator of another version refuses may be unknown to it."""
    reason, identity = job.error or job.state.value, evaluation.identity
    if reason.startswith("params.") and identity is not None and identity.coordinator_code != identity.code:
        there = identity.coordinator_code or "unknown, so an older release"
        reason += f" (the coordinator's version is {there}, and ours {identity.code}: it may not know the rule)"
    return reason


def _estimate_share(values: Sequence[float], num_answers: int) -> Estimate:
    return estimate_share(values, num_answers) if values else Estimate(math.nan)


def compare_accuracies(row: Row, reference: Row) -> Estimate:
    """Return the mean difference of accuracies, problem by problem, over the problems that both rows have.

    Raises ``statistics.StatisticsError`` if they have none in common.
    """
    common = row.accuracy_by_problem.keys() & reference.accuracy_by_problem.keys()
    return estimate_difference([row.accuracy_by_problem[p] - reference.accuracy_by_problem[p] for p in sorted(common)])


def compare_rows(all_rows: Sequence[Row]) -> list[Comparison]:
    """Compare every pair of rows that share problems; of a pair, the later row stands first."""
    return [
        Comparison(row.label, row.n, other.label, other.n, common, compare_accuracies(row, other))
        for other, row in combinations(all_rows, 2)
        if (common := len(row.accuracy_by_problem.keys() & other.accuracy_by_problem.keys()))
    ]


def find_row(all_rows: Sequence[Row], label: str, n: int) -> Row | None:
    """Return the row of this method and n, or None."""
    return next((row for row in all_rows if (row.label, row.n) == (label, n)), None)


def find_target_alone(all_rows: Sequence[Row]) -> Row | None:
    """Return the row in which the target works alone, or None."""
    return next((row for label, n in TARGET_ALONE if (row := find_row(all_rows, label, n)) is not None), None)


def find_baseline(all_rows: Sequence[Row]) -> tuple[float, str] | None:
    """Return the FLOPs of the plain target for one answer, without a PRM, and the row that they are taken from.

    They are the one baseline of every table. None if no row has the target alone, or its size is not known.
    """
    alone = find_target_alone(all_rows)
    if alone is None or alone.has_failed or not alone.target_flops_per_problem:
        return None
    return alone.target_flops_per_problem, f"{alone.label}, n = {alone.n}"


def is_by_draft_alone(job: RecordedJob) -> bool:
    """Return whether the job succeeded and every kept step is the draft's.

    RSD, section 3.4 and Figure 5: with a threshold of 0 this holds for every problem, with 1 for nearly none.
    """
    is_drafted = all(step.source is Source.DRAFT for step in job.steps)
    return job.state is JobState.SUCCEEDED and bool(job.steps) and is_drafted


def group_jobs(jobs: Iterable[RecordedJob], key: Callable[[RecordedJob], K]) -> dict[K, list[RecordedJob]]:
    """Return the jobs of each key, keys ascending."""
    groups: dict[K, list[RecordedJob]] = defaultdict(list)
    for job in jobs:
        groups[key(job)].append(job)
    return {each: groups[each] for each in sorted(groups)}


def _average_accuracy(groups: Mapping[K, Sequence[RecordedJob]]) -> dict[K, float]:
    return {key: statistics.fmean(job.is_correct for job in jobs) for key, jobs in groups.items()}


def _estimate_acceptance(problems: Iterable[Sequence[RecordedJob]]) -> Estimate | None:
    """Return the accepted share of the steps; None where no step could be rejected."""
    accepted, made = [], []
    for jobs in problems:
        tested = [passes for job in jobs if can_reject(job.params.get("method")) for passes in _list_tests(job)]
        accepted.append(sum(tested))
        made.append(len(tested))
    return estimate_ratio(accepted, made) if any(made) else None


def _list_tests(job: RecordedJob) -> list[bool]:
    """Return whether each step was accepted; of a job over whole responses, whether the one response was."""
    passed = [step.outcome is Outcome.ACCEPTED for step in job.steps]
    is_of_responses = job.params.get("scope") == Scope.RESPONSES and "scope" in METHODS[job.params["method"]].parameters
    return [all(passed)] if is_of_responses and passed else passed


def _average_timings(jobs: Iterable[RecordedJob]) -> Timings:
    of_steps = [step.seconds for job in jobs for step in job.steps]
    of_jobs = [
        job.finished_at - job.started_at for job in jobs if job.started_at is not None and job.finished_at is not None
    ]
    return Timings(
        seconds_per_step=statistics.fmean(of_steps) if of_steps else None,
        seconds_per_problem=statistics.fmean(of_jobs) if of_jobs else None,
    )


def _find_shared_params(jobs: Sequence[RecordedJob]) -> dict[str, Any]:
    """Return the parameters that have the same value in all jobs. The seed is left out: each job has its own."""
    first = jobs[0].params
    shared = [name for name in first if all(name in job.params and job.params[name] == first[name] for job in jobs)]
    return {name: first[name] for name in sorted(shared) if name != "seed"}
