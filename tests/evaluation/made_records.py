"""Records of jobs that never ran: each test writes down what it needs and the rest is plain."""

from collections.abc import Sequence
from typing import Any

from gsi.algorithm.candidates import FinishReason, Outcome, Source
from gsi.evaluation.records import Evaluation, RecordedJob, RecordedModel
from gsi.jobs.state import JobState
from gsi.jobs.step_record import CandidateRecord, ProposalRecord, StepRecord

MODELS = {
    "draft": RecordedModel(model="tiny-draft", engine="transformers", num_parameters=10),
    "target": RecordedModel(model="tiny-target", engine="transformers", num_parameters=100),
    "prm": RecordedModel(model="tiny-prm", engine="transformers", num_parameters=50),
}


def candidate(
    num_tokens: int = 1, *, reward: float | None = None, log_likelihood_target: float | None = None
) -> CandidateRecord:
    """Return a candidate of so many tokens."""
    return CandidateRecord(
        token_ids=tuple(range(num_tokens)),
        text="…\n\n",
        finish_reason=FinishReason.DELIMITER,
        log_likelihood=-1.0,
        log_likelihood_target=log_likelihood_target,
        reward=reward,
    )


def proposal(source: Source, *candidates: CandidateRecord, selected: int | None = 0, parent: int = 0) -> ProposalRecord:
    return ProposalRecord(source=source, parent=parent, selected=selected, seconds={}, candidates=candidates)


def step(
    *proposals: ProposalRecord,
    source: Source = Source.DRAFT,
    outcome: Outcome = Outcome.ACCEPTED,
    reward: float | None = None,
    seconds: float = 0.5,
) -> StepRecord:
    """Return a kept step; the tokens that were written for it are those of its proposals."""
    return StepRecord(
        index=0,
        token_ids=(0,),
        text="…\n\n",
        source=source,
        outcome=outcome,
        finish_reason=FinishReason.DELIMITER,
        reward=reward,
        draft_tokens=num_tokens(proposals, Source.DRAFT),
        target_tokens=num_tokens(proposals, Source.TARGET),
        seconds=seconds,
        proposals=proposals,
    )


def num_tokens(proposals: Sequence[ProposalRecord], source: Source) -> int:
    return sum(len(c.token_ids) for p in proposals if p.source is source for c in p.candidates)


def accepted_step(reward: float = 0.9, num_tokens: int = 1) -> StepRecord:
    """Return a draft's step that passed: one candidate, scored and rated."""
    drafted = candidate(num_tokens, reward=reward, log_likelihood_target=-2.0)
    return step(proposal(Source.DRAFT, drafted), reward=reward)


def resampled_step(rejected_reward: float = 0.2, reward: float = 0.8, num_tokens: int = 1) -> StepRecord:
    """Return a step that the target wrote after the draft's one candidate had failed."""
    drafted = candidate(num_tokens, reward=rejected_reward, log_likelihood_target=-20.0)
    written = candidate(num_tokens, reward=reward)
    proposals = (proposal(Source.DRAFT, drafted), proposal(Source.TARGET, written))
    return step(*proposals, source=Source.TARGET, outcome=Outcome.RESAMPLED, reward=reward)


def job(
    problem: str = "p0",
    *,
    label: str = "gsi",
    n: int = 4,
    seed: int = 0,
    is_correct: bool = True,
    steps: Sequence[StepRecord] = (),
    params: dict[str, Any] | None = None,
    **fields: Any,
) -> RecordedJob:
    """Return a job that succeeded; its method is what its label starts with, up to the options."""
    method = label.partition(":")[0]
    return RecordedJob.model_validate(
        {
            "id": f"{label}-{n}-{seed}-{problem}",
            "problem": problem,
            "prompt": "How much?",
            "expected": "7",
            "answer": "7" if is_correct else "8",
            "label": label,
            "n": n,
            "seed": seed,
            "state": JobState.SUCCEEDED,
            "stop_reason": "ANSWER",
            "is_correct": is_correct,
            "is_correct_strict": is_correct,
            "params": {"method": method, "n": n, "beta": 20.0, **(params or {})},
            "models": MODELS,
            "started_at": 100.0,
            "finished_at": 102.0,
            "steps": steps,
            **fields,
        }
    )


def evaluation(labels: Sequence[str] = ("gsi",), **fields: Any) -> Evaluation:
    """Return the conditions of an evaluation that asked for these labels."""
    conditions: dict[str, Any] = {
        "dataset": "arithmetic",
        "problems": 2,
        "labels": labels,
        "ns": (4,),
        "seeds": 1,
        "concurrency": 8,
        "machine": "2 cores of a small machine",
        "date": "2026-11-22",
    }
    return Evaluation.model_validate(conditions | fields)
