"""What the records of the passes say of each method at each n. No model and no clock is needed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsi.evaluation.costs import estimate_job_flops
from gsi.evaluation.estimates import Estimate, estimate_mean
from gsi.evaluation.figures import Row, compute_rows, group_jobs
from gsi.evaluation.front import pareto_front
from gsi.evaluation.records import Evaluation, RecordedJob
from gsi.jobs.state import JobState

Key = tuple[str, int]  # label and n


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A method at one n. ``row`` holds accuracy, tokens and acceptance over the answers of all passes."""

    row: Row
    seconds_by_problem: Mapping[str, float]  # an answer, of the pass with one job at a time
    seconds_alone: Estimate | None  # an answer, one job at a time
    seconds_loaded: float | None  # an answer at full load: the time in which jobs ran, over the answers
    flops_by_problem: Mapping[str, float]  # empty where they are not known

    @property
    def key(self) -> Key:
        return (self.row.label, self.row.n)

    @property
    def name(self) -> str:
        return name_row(self.key)


@dataclass(frozen=True, slots=True)
class Field:
    """All rows, in the order in which they were asked for."""

    rows: Sequence[FieldRow]

    def find(self, key: Key) -> FieldRow | None:
        return next((row for row in self.rows if row.key == key), None)

    @property
    def answered(self) -> list[FieldRow]:
        return [row for row in self.rows if not row.row.has_failed]

    @property
    def front_over_seconds(self) -> list[FieldRow]:
        timed = [row for row in self.answered if row.seconds_alone is not None]
        return pareto_front(timed, lambda one: one.seconds_alone.value if one.seconds_alone else 0.0, accuracy_of)

    @property
    def front_over_flops(self) -> list[FieldRow]:
        counted = [row for row in self.answered if row.row.flops_per_problem is not None]
        return pareto_front(counted, lambda one: one.row.flops_per_problem or 0.0, accuracy_of)


def accuracy_of(row: FieldRow) -> float:
    return row.row.accuracy.value


def name_row(key: Key) -> str:
    return f"{key[0]}, n = {key[1]}"


def make_field(
    evaluation: Evaluation,
    alone: Sequence[RecordedJob],
    loaded: Sequence[RecordedJob],
    untimed: Sequence[RecordedJob] = (),
) -> Field:
    """Return the figures of all passes; ``evaluation`` is that of one of them."""
    rows = compute_rows(evaluation, [*untimed, *alone, *loaded])
    return Field([_make_row(row, *(_jobs_of(row, jobs) for jobs in (alone, loaded, untimed))) for row in rows])


def _jobs_of(row: Row, jobs: Iterable[RecordedJob]) -> list[RecordedJob]:
    return [job for job in jobs if (job.label, job.n) == (row.label, row.n)]


def _make_row(
    row: Row, alone: Sequence[RecordedJob], loaded: Sequence[RecordedJob], untimed: Sequence[RecordedJob]
) -> FieldRow:
    seconds = _average_seconds(_answered(alone))
    spans = _spans(_answered(loaded))
    return FieldRow(
        row=row,
        seconds_by_problem=seconds,
        seconds_alone=estimate_mean(list(seconds.values())) if seconds else None,
        seconds_loaded=measure_union(spans) / len(spans) if spans else None,
        flops_by_problem=_average_flops([*_answered(alone), *_answered(loaded), *_answered(untimed)]),
    )


def _answered(jobs: Iterable[RecordedJob]) -> list[RecordedJob]:
    return [job for job in jobs if job.state is JobState.SUCCEEDED]


def _spans(jobs: Iterable[RecordedJob]) -> list[tuple[float, float]]:
    return [
        (job.started_at, job.finished_at) for job in jobs if job.started_at is not None and job.finished_at is not None
    ]


def _average_seconds(jobs: Sequence[RecordedJob]) -> dict[str, float]:
    """Return the mean seconds of an answer to each problem."""
    spans = {problem: _spans(some) for problem, some in group_jobs(jobs, lambda job: job.problem).items()}
    return {problem: statistics.fmean(end - begin for begin, end in some) for problem, some in spans.items() if some}


def _average_flops(jobs: Sequence[RecordedJob]) -> dict[str, float]:
    """Return the mean FLOPs of an answer to each problem; none at all if those of one answer are not known."""
    of_problems: dict[str, float] = {}
    for problem, of_problem in group_jobs(jobs, lambda job: job.problem).items():
        flops = [estimate_job_flops(job) for job in of_problem]
        known = [one for one in flops if one is not None]
        if len(known) < len(flops):
            return {}
        of_problems[problem] = statistics.fmean(known)
    return of_problems


def measure_union(spans: Iterable[tuple[float, float]]) -> float:
    """Return for how long at least one span was open. A pause between them, such as a stopped run's, does not count."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def describe_row(one: FieldRow, field: Field) -> dict[str, Any]:
    """Return a row as JSON values."""
    row, seconds = one.row, one.seconds_alone
    return {
        "method": row.label,
        "n": row.n,
        "answered": row.answered,
        "failure": row.failure_reason,
        "accuracy": None if row.has_failed else row.accuracy.value,
        "accuracy_95": None if row.has_failed else [row.accuracy.low, row.accuracy.high],
        "acceptance": None if row.acceptance_rate is None else row.acceptance_rate.value,
        "seconds_alone": None if seconds is None else seconds.value,
        "seconds_loaded": one.seconds_loaded,
        "steps": row.steps_per_problem,
        "draft_tokens": row.tokens_per_problem.draft_written,
        "target_tokens": row.tokens_per_problem.target_written,
        "target_scored_tokens": row.tokens_per_problem.target_scored,
        "prm_tokens": row.tokens_per_problem.prm_rated,
        "flops": row.flops_per_problem,
        "is_on_front_over_seconds": one in field.front_over_seconds,
        "is_on_front_over_flops": one in field.front_over_flops,
    }
