"""Every figure of the report, computed from records alone: no model, no clock, no file.

A row is a method at one n, (label, n). "Per problem" means per job: one problem, answered once. Sums and means are
rounded once (``statistics``), so the order of the jobs changes nothing.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from scipy import stats

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.methods import METHODS
from gsi.evaluation.records import Evaluation, RecordedJob, RecordedModel
from gsi.jobs.state import JobState
from gsi.jobs.step_record import CandidateRecord

REFERENCE = "soft-best-of-n:target"  # what the others approximate
TARGET_ALONE = (("target", 1), (REFERENCE, 1))  # rows in which the target answers by itself, the plainest first
K = TypeVar("K", int, str, tuple[int, str, int])  # what jobs are grouped by
TWO_SIDED_95 = 0.975  # quantile of a 95 % interval's upper end


def can_reject(method: str | None) -> bool:
    """Return whether an acceptance rate says anything of this method: others accept every step."""
    return method in METHODS and METHODS[method].can_reject


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the half width of its 95 % interval: None where fewer than two observations were made."""

    value: float
    half_width: float | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that each model wrote or read as candidates, discarded drafts included. Prompts are not counted."""

    draft_written: float
    target_written: float
    target_scored: float  # of draft candidates that carry the target's likelihood
    prm_rated: float  # of candidates that carry a reward


@dataclass(frozen=True, slots=True)
class Timings:
    """What depends on the machine and on how often the evaluation was stopped, at the stated concurrency."""

    seconds_per_step: float | None
    seconds_per_problem: float | None  # from taken to finished; None where no job has both


@dataclass(frozen=True, slots=True)
class Row:
    """All figures of one method at one n. Shares and accuracies are in [0, 1]."""

    label: str
    n: int
    params: Mapping[str, Any]  # those that all jobs of the row share, as far as they succeeded
    problems: int
    seeds: int
    jobs: int
    accuracy: Estimate  # interval over problems, a problem's seeds averaged first: they are not independent
    strict_accuracy: Estimate  # the same, by the strict grader
    accuracy_by_problem: Mapping[str, float]
    accuracy_over_seeds: Estimate  # mean of the seeds' accuracies; interval over seeds
    seeds_standard_deviation: float | None  # of the seeds' accuracies; None for one seed
    acceptance_rate: Estimate | None  # share of steps, interval over problems; None for methods that cannot reject
    steps_per_problem: float  # rounds, where a method keeps several trajectories
    tokens_per_problem: Tokens
    flops_per_problem: float | None  # None where they cannot be known: see ``flops``
    share_draft_alone: float  # see ``is_by_draft_alone``
    share_draft_alone_correct: float  # of all jobs: by the draft alone, and correct
    states: Mapping[str, int]
    stop_reasons: Mapping[str, int]
    failures: int  # jobs that did not succeed; they count as wrong
    timings: Timings | None

    @property
    def method(self) -> str | None:
        return self.params.get("method")

    @property
    def can_reject(self) -> bool:
        return can_reject(self.method)

    def without_timings(self) -> "Row":
        """Return what must be equal for an evaluation that was stopped and continued and one that was not."""
        return replace(self, timings=None)


@dataclass(frozen=True, slots=True)
class StepRewards:
    """The PRM's numbers for the steps of a method that can reject, ascending (RSD paper, Figure 3)."""

    accepted: tuple[float, ...]  # of the draft's steps that were kept
    rejected: tuple[float, ...]  # of the draft's candidates that were drawn and failed the test
    replacement: tuple[float, ...]  # of the target's steps that were kept in their place


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row against soft best-of-n with the target at the same n, over the problems that both answered."""

    label: str
    n: int
    reference: str
    problems: int
    difference: Estimate  # of accuracies, the row's less the reference's


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A job that one grader calls correct and the other does not."""

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


def rows(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[Row]:
    """Return a row for each (label, n) that has jobs: labels as the evaluation names them, n ascending."""
    groups = _grouped(jobs, lambda job: (_place(evaluation, job.label), job.label, job.n))
    return [_row(of_row) for of_row in groups.values()]


def _place(evaluation: Evaluation, label: str) -> int:
    """Return where a label stands in what was asked; labels that were not asked for come last."""
    return evaluation.labels.index(label) if label in evaluation.labels else len(evaluation.labels)


def _row(jobs: Sequence[RecordedJob]) -> Row:
    by_problem = _grouped(jobs, lambda job: job.problem)
    accuracy_by_problem = _accuracies(by_problem)
    accuracies_of_seeds = list(_accuracies(_grouped(jobs, lambda job: job.seed)).values())
    alone = [job for job in jobs if is_by_draft_alone(job)]
    states = Counter(job.state.value for job in jobs)
    return Row(
        label=jobs[0].label,
        n=jobs[0].n,
        params=_shared_params([job for job in jobs if job.state is JobState.SUCCEEDED] or jobs),
        problems=len(by_problem),
        seeds=len(accuracies_of_seeds),
        jobs=len(jobs),
        accuracy=mean(list(accuracy_by_problem.values())),
        strict_accuracy=mean([statistics.fmean(job.is_correct_strict for job in of) for of in by_problem.values()]),
        accuracy_by_problem=accuracy_by_problem,
        accuracy_over_seeds=mean(accuracies_of_seeds),
        seeds_standard_deviation=statistics.stdev(accuracies_of_seeds) if len(accuracies_of_seeds) > 1 else None,
        acceptance_rate=_acceptance_rate(by_problem.values()),
        steps_per_problem=statistics.fmean(len(job.steps) for job in jobs),
        tokens_per_problem=_mean_tokens([tokens(job) for job in jobs]),
        flops_per_problem=_mean_flops(jobs),
        share_draft_alone=len(alone) / len(jobs),
        share_draft_alone_correct=sum(job.is_correct for job in alone) / len(jobs),
        states=_sorted(states),
        stop_reasons=_sorted(Counter(job.stop_reason for job in jobs if job.stop_reason is not None)),
        failures=len(jobs) - states[JobState.SUCCEEDED.value],
        timings=_timings(jobs),
    )


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean with its t-interval: the values are independent, one for each problem (or seed)."""
    return Estimate(statistics.fmean(values), _half_width(values))


def ratio(parts: Sequence[int], wholes: Sequence[int]) -> Estimate:
    """Return sum(parts) / sum(wholes) with its t-interval; a pair for each problem, the sum of wholes above 0.

    The interval is that of a ratio estimator (Cochran, *Sampling Techniques*, section 2.11): a problem with more steps
    has more to say, and a step is not independent of the others of its problem.
    """
    share = sum(parts) / sum(wholes)
    mean_whole = statistics.fmean(wholes)
    residuals = [(part - share * whole) / mean_whole for part, whole in zip(parts, wholes, strict=True)]
    return Estimate(share, _half_width(residuals))


def _half_width(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    quantile = float(stats.t.ppf(TWO_SIDED_95, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def paired(row: Row, reference: Row) -> Estimate:
    """Return the mean difference of accuracies, problem by problem, over the problems that both rows have.

    Raises ``statistics.StatisticsError`` if they have none in common.
    """
    common = row.accuracy_by_problem.keys() & reference.accuracy_by_problem.keys()
    return mean([row.accuracy_by_problem[p] - reference.accuracy_by_problem[p] for p in sorted(common)])


def comparisons(all_rows: Sequence[Row]) -> list[Comparison]:
    """Compare each row with the reference at the same n, where there is one and they share problems."""
    found = []
    for row in all_rows:
        reference = find(all_rows, REFERENCE, row.n)
        if reference is None or reference is row:
            continue
        common = len(row.accuracy_by_problem.keys() & reference.accuracy_by_problem.keys())
        if common:
            found.append(Comparison(row.label, row.n, reference.label, common, paired(row, reference)))
    return found


def find(all_rows: Sequence[Row], label: str, n: int) -> Row | None:
    """Return the row of this method and n, or None."""
    return next((row for row in all_rows if (row.label, row.n) == (label, n)), None)


def target_alone(all_rows: Sequence[Row]) -> Row | None:
    """Return the row in which the target answers by itself, or None."""
    return next((row for label, n in TARGET_ALONE if (row := find(all_rows, label, n)) is not None), None)


def tokens(job: RecordedJob) -> Tokens:
    """Count the tokens of one job.

    What was written is in the steps' own counts, over all proposals of a round; what was scored and rated is in the
    candidates. A value counts even if it is -inf or NaN: the model has done the work.
    """
    proposals = [proposal for step in job.steps for proposal in step.proposals]
    drafted = [c for proposal in proposals if proposal.source is Source.DRAFT for c in proposal.candidates]
    candidates = [c for proposal in proposals for c in proposal.candidates]
    return Tokens(
        draft_written=sum(step.draft_tokens for step in job.steps),
        target_written=sum(step.target_tokens for step in job.steps),
        target_scored=_num_tokens(c for c in drafted if c.log_likelihood_target is not None),
        prm_rated=_num_tokens(c for c in candidates if c.reward is not None),
    )


def _num_tokens(candidates: Iterable[CandidateRecord]) -> int:
    return sum(len(candidate.token_ids) for candidate in candidates)


def flops(job: RecordedJob) -> float | None:
    """Return 2 N for each token written, scored or rated, N the model's parameters (RSD paper, section 3.3).

    Reading the prompt is not counted, nor is a prefix that is read again. None if a model worked whose number of
    parameters is not known, or if the target decoded speculatively: what it drafted inside its engine is not on record.
    """
    counted = tokens(job)
    if counted.target_written and any(model.num_speculative_tokens for model in job.models.values()):
        return None
    tokens_of_role = {
        "draft": counted.draft_written,
        "target": counted.target_written + counted.target_scored,
        "prm": counted.prm_rated,
    }
    total = 0.0
    for role, count in tokens_of_role.items():
        num_parameters = job.models[role].num_parameters if role in job.models else None
        if count > 0 and num_parameters is None:
            return None
        total += 2 * (num_parameters or 0) * count
    return total


def is_by_draft_alone(job: RecordedJob) -> bool:
    """Return whether the target wrote nothing that was kept: the job succeeded and every kept step is the draft's.

    RSD, section 3.4 and Figure 5: with its threshold at 0 this is every problem, at 1 (nearly) none.
    """
    is_drafted = all(step.source is Source.DRAFT for step in job.steps)
    return job.state is JobState.SUCCEEDED and bool(job.steps) and is_drafted


def disagreements(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[Disagreement]:
    """Return the jobs on which the two graders disagree, in the order of the rows."""
    return [
        Disagreement(
            job.label, job.n, job.seed, job.problem, job.expected, job.answer, job.is_correct, job.is_correct_strict
        )
        for job in _in_order(evaluation, jobs)
        if job.is_correct != job.is_correct_strict
    ]


def failures(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[Failure]:
    """Return the jobs that did not succeed, in the order of the rows."""
    return [
        Failure(job.label, job.n, job.seed, job.problem, job.state.value, job.error)
        for job in _in_order(evaluation, jobs)
        if job.state is not JobState.SUCCEEDED
    ]


def rewards(evaluation: Evaluation, jobs: Iterable[RecordedJob]) -> dict[str, StepRewards]:
    """Return the rewards of each label that can reject, over all its n, those that are not finite left out."""
    able = [job for job in jobs if can_reject(job.params.get("method"))]
    groups = _grouped(able, lambda job: (_place(evaluation, job.label), job.label, 0))
    return {label: _rewards(of_label) for (_, label, _), of_label in groups.items()}


def _rewards(jobs: Iterable[RecordedJob]) -> StepRewards:
    steps = [step for job in jobs for step in job.steps]
    resampled = [step for step in steps if step.outcome is Outcome.RESAMPLED]
    drafted = [p for step in resampled for p in step.proposals if p.source is Source.DRAFT]
    return StepRewards(
        accepted=_finite(step.reward for step in steps if step.outcome is Outcome.ACCEPTED),
        rejected=_finite(p.candidates[p.selected].reward for p in drafted if p.selected is not None),
        replacement=_finite(step.reward for step in resampled),
    )


def _finite(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(sorted(value for value in values if value is not None and math.isfinite(value)))


def models(jobs: Iterable[RecordedJob]) -> dict[str, list[RecordedModel]]:
    """Return the distinct models of each role: one, unless the evaluation was continued with another."""
    found = {(role, model) for job in jobs for role, model in job.models.items()}
    return {
        role: sorted((model for of, model in found if of == role), key=str)
        for role in ("draft", "target", "prm")
        if any(of == role for of, _ in found)
    }


def _in_order(evaluation: Evaluation, jobs: Iterable[RecordedJob]) -> list[RecordedJob]:
    return sorted(jobs, key=lambda job: (_place(evaluation, job.label), job.label, job.n, job.seed, job.problem))


def _grouped(jobs: Iterable[RecordedJob], key: Callable[[RecordedJob], K]) -> dict[K, list[RecordedJob]]:
    """Return the jobs of each key, keys ascending."""
    groups: dict[K, list[RecordedJob]] = defaultdict(list)
    for job in jobs:
        groups[key(job)].append(job)
    return {each: groups[each] for each in sorted(groups)}


def _accuracies(groups: Mapping[K, Sequence[RecordedJob]]) -> dict[K, float]:
    return {key: statistics.fmean(job.is_correct for job in jobs) for key, jobs in groups.items()}


def _acceptance_rate(problems: Iterable[Sequence[RecordedJob]]) -> Estimate | None:
    """Return the accepted share of the steps; None where no step could be rejected."""
    accepted, made = [], []
    for jobs in problems:
        steps = [step for job in jobs if can_reject(job.params.get("method")) for step in job.steps]
        accepted.append(sum(step.outcome is Outcome.ACCEPTED for step in steps))
        made.append(len(steps))
    return ratio(accepted, made) if any(made) else None


def _mean_tokens(counted: Sequence[Tokens]) -> Tokens:
    return Tokens(
        draft_written=statistics.fmean(each.draft_written for each in counted),
        target_written=statistics.fmean(each.target_written for each in counted),
        target_scored=statistics.fmean(each.target_scored for each in counted),
        prm_rated=statistics.fmean(each.prm_rated for each in counted),
    )


def _mean_flops(jobs: Iterable[RecordedJob]) -> float | None:
    known = []
    for job in jobs:
        of_job = flops(job)
        if of_job is None:
            return None
        known.append(of_job)
    return statistics.fmean(known)


def _timings(jobs: Iterable[RecordedJob]) -> Timings:
    of_steps = [step.seconds for job in jobs for step in job.steps]
    of_jobs = [
        job.finished_at - job.started_at for job in jobs if job.started_at is not None and job.finished_at is not None
    ]
    return Timings(
        seconds_per_step=statistics.fmean(of_steps) if of_steps else None,
        seconds_per_problem=statistics.fmean(of_jobs) if of_jobs else None,
    )


def _shared_params(jobs: Sequence[RecordedJob]) -> dict[str, Any]:
    """Return the parameters that have one value in all jobs, the jobs' own seeds aside."""
    first = jobs[0].params
    shared = [name for name in first if all(name in job.params and job.params[name] == first[name] for job in jobs)]
    return {name: first[name] for name in sorted(shared) if name != "seed"}


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts)}
