"""What ``gsi plan`` reads of a row: the calls that its jobs made, and the quantities on which their costs depend."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Source
from gsi.algorithm.params import Scope
from gsi.evaluation.figures import Row
from gsi.evaluation.records import RecordedJob
from gsi.jobs.state import JobState
from gsi.planning.calls import CALLS, Again, name_calls


@dataclass(frozen=True, slots=True)
class Measured:
    """``calls``: the row's label in ``gsi/planning/calls.py``; None if the table does not have it."""

    calls: str | None
    acceptance: float | None  # share of the steps, or responses, that the draft wrote and none replaced
    mean_n: float | None  # candidates of a proposal, or responses of a job; None: there is no rule for n
    sure: float | None  # share of the judged steps that the draft alone has judged; None: none was judged


def measure(row: Row, jobs: Sequence[RecordedJob]) -> Measured:
    """Return what the jobs of a row tell. Those that did not succeed are not counted."""
    answered = [job for job in jobs if (job.label, job.n) == (row.label, row.n) and job.state is JobState.SUCCEEDED]
    calls = name_calls(row.params)
    has_rule = calls is not None and CALLS[calls].has_n_rule
    counts = [count for job in answered for count in _count_candidates(job)] if has_rule else []
    judged = [
        all(each.source is Source.DRAFT for each in step.judgements)
        for job in answered
        for step in job.steps
        if step.judgements
    ]
    return Measured(
        calls,
        acceptance=_measure_acceptance(calls, row, answered),
        mean_n=statistics.fmean(counts) if counts else None,
        sure=statistics.fmean(judged) if judged else None,
    )


def _measure_acceptance(calls: str | None, row: Row, jobs: Sequence[RecordedJob]) -> float | None:
    if calls is not None and CALLS[calls].when is Again.INSTEAD:  # no step is rejected, and either model writes it
        drafted = [step.source is Source.DRAFT for job in jobs for step in job.steps]
        return statistics.fmean(drafted) if drafted else None
    return row.acceptance_rate.value if row.acceptance_rate else None


def _count_candidates(job: RecordedJob) -> Iterator[int]:
    """Return the candidates of each proposal of a job; of a job over responses, how many each model began."""
    if job.params.get("scope") != Scope.RESPONSES:
        yield from (len(proposal.candidates) for step in job.steps for proposal in step.proposals)
        return
    writers = {
        place: branch.step.source for step in job.steps for place, branch in enumerate(step.branches) if branch.step
    }
    yield from Counter(writers.values()).values()
