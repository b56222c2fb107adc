"""A job of an evaluation in full, one line of JSONL: what every figure is computed from, without a model.

Numbers that are not finite are written as the strings "-Infinity", "Infinity" and "NaN", which JSON has no numbers for.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from gsi.algorithm.candidates import FinishReason, Outcome, Source
from gsi.jobs.state import JobState


class Record(BaseModel):
    """Reads what it knows and leaves the rest, so that records of newer versions can be read too."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class RecordedCandidate(Record):
    """A proposed step. A value is None where nobody was asked for it."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    log_likelihood: float  # nats, under the model that wrote it
    log_likelihood_target: float | None = None  # of a draft's candidate; -inf: the target would never write it
    reward: float | None = None  # as the method saw it, after the job's reward map; NaN ranks below every other


class RecordedProposal(Record):
    """All candidates that one model wrote from one prefix, in index order, and the one that was drawn."""

    source: Source
    parent: int = 0  # which trajectory of the round before it continues; 0 where a method keeps only one
    selected: int | None = None  # None where a round keeps candidates by another rule (beam search)
    seconds: Mapping[str, float]  # from its start to the end of "propose" and of each scorer, "target" and "prm"
    candidates: tuple[RecordedCandidate, ...]


class RecordedRejection(Record):
    """The draft's candidate that was drawn and failed the test."""

    text: str
    reward: float | None = None
    tilted_reward: float | None = None
    log_likelihood_draft: float
    log_likelihood_target: float | None = None


class KeptStep(Record):
    """A kept step."""

    index: int
    token_ids: tuple[int, ...]
    text: str
    source: Source
    outcome: Outcome
    finish_reason: FinishReason
    reward: float | None = None
    tilted_reward: float | None = None
    log_likelihood_draft: float | None = None
    log_likelihood_target: float | None = None
    rejected: RecordedRejection | None = None


class RecordedBranch(Record):
    """How a trajectory came out of the round before: whose it was there, and its step, unless it was finished."""

    parent: int
    step: KeptStep | None = None


class RecordedStep(KeptStep):
    """A round: the kept step, the leading one where several trajectories are kept, with its cost.

    ``draft_tokens`` and ``target_tokens`` count discarded candidates too.
    """

    draft_tokens: int
    target_tokens: int
    seconds: float
    branches: tuple[RecordedBranch, ...] = ()  # empty where a method keeps one trajectory
    proposals: tuple[RecordedProposal, ...] = ()


class RecordedModel(Record):
    """What made a job: a model of one role. ``num_parameters`` is None where the engine cannot tell."""

    model: str
    engine: str = ""
    num_parameters: int | None = None
    num_speculative_tokens: int = 0  # that its engine drafts by itself


class RecordedJob(Record):
    """A job with its problem, its grades and every step."""

    id: str
    problem: str  # its id in the data set
    prompt: str
    expected: str
    label: str  # the method as it was asked for: "rsd:binary=0.7"
    n: int
    seed: int  # 0, 1, … of the evaluation; the job's own is in ``params``
    state: JobState
    stop_reason: str | None = None
    error: str | None = None
    text: str = ""
    answer: str | None = None
    is_correct: bool
    is_correct_strict: bool
    params: Mapping[str, Any]  # every parameter that was in force: method, beta, acceptance_threshold, …
    models: Mapping[str, RecordedModel] = {}  # by role: draft, target, prm
    submitted_at: float | None = None  # seconds since 1970, as the next two
    started_at: float | None = None
    finished_at: float | None = None
    steps: tuple[RecordedStep, ...] = ()


class Evaluation(Record):
    """What was asked of an evaluation, and under which conditions it ran."""

    dataset: str
    problems: int
    labels: tuple[str, ...]
    ns: tuple[int, ...]
    seeds: int
    concurrency: int  # jobs in the queue or in flight at once
    machine: str
    date: str
