"""Accuracy by the level and by the subject of the problems, where a data set names them."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from gsi.evaluation.estimates import Estimate, estimate_share
from gsi.evaluation.figures import find_place, group_jobs
from gsi.evaluation.records import Evaluation, RecordedJob
from gsi.jobs.state import JobState

FIELDS = ("level", "subject")  # of a problem, each of which divides the problems into strata


@dataclass(frozen=True, slots=True)
class Stratum:
    """The accuracy of a row on the problems of one level or one subject."""

    field: str
    value: str
    label: str
    n: int
    problems: int
    accuracy: Estimate


def compute_strata(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[Stratum]:
    """Return a stratum for each field, value and row, values ascending; failed jobs are no answers."""
    answered = [job for job in jobs if job.state is JobState.SUCCEEDED]
    found = []
    for field in FIELDS:
        of_values: dict[str, list[RecordedJob]] = defaultdict(list)
        for job in answered:
            if (value := getattr(job, field)) is not None:
                of_values[value].append(job)
        for value, of_value in sorted(of_values.items()):
            rows = group_jobs(of_value, lambda job: (find_place(evaluation, job.label), job.label, job.n))
            found += [_compute_stratum(field, value, of_row) for of_row in rows.values()]
    return found


def _compute_stratum(field: str, value: str, jobs: Sequence[RecordedJob]) -> Stratum:
    by_problem = group_jobs(jobs, lambda job: job.problem).values()
    shares = [statistics.fmean(job.is_correct for job in of_problem) for of_problem in by_problem]
    return Stratum(field, value, jobs[0].label, jobs[0].n, len(shares), estimate_share(shares, len(jobs)))
