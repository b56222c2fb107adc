"""What a job cost: tokens by role, and the FLOPs that they stand for."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Source
from gsi.evaluation.records import RecordedJob
from gsi.jobs.step_record import CandidateRecord, StepRecord

ROLES = ("draft", "target", "prm")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that each model wrote or read as candidates, discarded drafts included. Prompts are not counted."""

    draft_written: float
    target_written: float
    target_scored: float  # of draft candidates that have the target's likelihood, or its judgement, with the question
    prm_rated: float  # of candidates that have a reward, with what the PRM had not read before them
    draft_judged: float = 0.0  # of draft candidates that the draft judged itself, with the question

    @property
    def total(self) -> float:
        return self.draft_written + self.target_written + self.target_scored + self.prm_rated + self.draft_judged


def count_tokens(job: RecordedJob) -> Tokens:
    """Count the tokens of one job.

    A step counts the tokens that were written, over all proposals of its round; the candidates tell which tokens were
    scored and rated. A score counts even if it is -inf or NaN: the model has done the work.
    """
    proposals = [proposal for step in job.steps for proposal in step.proposals]
    drafted = [c for proposal in proposals if proposal.source is Source.DRAFT for c in proposal.candidates]
    return Tokens(
        draft_written=sum(step.draft_tokens for step in job.steps),
        target_written=sum(step.target_tokens for step in job.steps),
        target_scored=_sum_tokens(c for c in drafted if c.log_likelihood_target is not None)
        + _count_judged(job, Source.TARGET),
        prm_rated=sum(map(_count_rated, job.steps)),
        draft_judged=_count_judged(job, Source.DRAFT),
    )


def average_tokens(jobs: Sequence[RecordedJob]) -> Tokens:
    """Return the mean tokens of a job."""
    counted = [count_tokens(job) for job in jobs]
    return Tokens(
        draft_written=statistics.fmean(tokens.draft_written for tokens in counted),
        target_written=statistics.fmean(tokens.target_written for tokens in counted),
        target_scored=statistics.fmean(tokens.target_scored for tokens in counted),
        prm_rated=statistics.fmean(tokens.prm_rated for tokens in counted),
        draft_judged=statistics.fmean(tokens.draft_judged for tokens in counted),
    )


def list_parameter_counts(job: RecordedJob) -> dict[str, int | None]:
    """Return each role's number of parameters; None where it is not known."""
    return {role: job.models[role].num_parameters if role in job.models else None for role in ROLES}


def estimate_flops(tokens: Mapping[str, float], num_parameters: Mapping[str, int | None]) -> float | None:
    """Return 2 N for each token that a model of N parameters writes, scores or rates; both arguments are by role.

    As in RSD, section 3.3, and Kaplan et al., *Scaling Laws for Neural Language Models*, 2020, section 2.1. Reading
    prompts and prefixes is not counted. None if a model worked whose number of parameters is not known.
    """
    total = 0.0
    for role, count in tokens.items():
        size = num_parameters[role]
        if count > 0 and size is None:
            return None
        total += 2 * (size or 0) * count
    return total


def estimate_job_flops(job: RecordedJob) -> float | None:
    """Return the FLOPs of a job (see ``estimate_flops``).

    None also if the target decoded speculatively: what its engine drafted by itself is not on record.
    """
    counted = count_tokens(job)
    if counted.target_written and any(model.num_speculative_tokens for model in job.models.values()):
        return None
    tokens = {
        "draft": counted.draft_written + counted.draft_judged,
        "target": counted.target_written + counted.target_scored,
        "prm": counted.prm_rated,
    }
    return estimate_flops(tokens, list_parameter_counts(job))


def estimate_prompt_flops(job: RecordedJob) -> float | None:
    """Return the FLOPs of reading a job's prompt once by each model that worked: 2 N a token.

    That is what engines with a prefix cache do; without one, every step reads the prompt and all steps before it again.
    None if the prompt's length is not on record, or a model's number of parameters is not known.
    """
    if job.prompt_tokens is None:
        return None
    counted = count_tokens(job)
    worked = {
        "draft": counted.draft_written > 0,
        "target": counted.target_written + counted.target_scored > 0,
        "prm": counted.prm_rated > 0,
    }
    tokens = {role: float(job.prompt_tokens * has_worked) for role, has_worked in worked.items()}
    return estimate_flops(tokens, list_parameter_counts(job))


def estimate_target_flops(job: RecordedJob) -> float | None:
    """Return the FLOPs of the target alone in a job, without those of the PRM; None if they are not known."""
    if any(model.num_speculative_tokens for model in job.models.values()):
        return None
    counted = count_tokens(job)
    written = {"target": counted.target_written + counted.target_scored}
    return estimate_flops(written, list_parameter_counts(job))


def average_flops(
    jobs: Sequence[RecordedJob], estimate: Callable[[RecordedJob], float | None] = estimate_job_flops
) -> float | None:
    """Return the mean of an estimate over jobs; None if that of any job is not known."""
    of_jobs = [estimate(job) for job in jobs]
    known = [flops for flops in of_jobs if flops is not None]
    return statistics.fmean(known) if len(known) == len(of_jobs) else None


def _count_rated(step: StepRecord) -> int:
    if step.prm_tokens is not None:
        return step.prm_tokens
    return _sum_tokens(c for proposal in step.proposals for c in proposal.candidates if c.reward is not None)


def _count_judged(job: RecordedJob, source: Source) -> int:
    return sum(each.num_tokens for step in job.steps for each in step.judgements if each.source is source)


def _sum_tokens(candidates: Iterable[CandidateRecord]) -> int:
    return sum(len(candidate.token_ids) for candidate in candidates)
