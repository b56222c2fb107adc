"""The schema of a job's result: what ``gsi result --json`` and ``JobRecord.to_dict`` say of a job.

``scripts/generate.py`` writes ``docs/result.schema.json`` from ``ResultDocument``.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from gsi.algorithm.stopping import StopReason
from gsi.jobs.state import JobState
from gsi.jobs.step_record import Record, StepRecord


class ResultDocument(Record):
    """A job as it is now, finished or not. Times are seconds since 1970 by the clock of the Redis server."""

    id: str = Field(description="The job's id.")
    state: JobState = Field(description="SUCCEEDED, FAILED, EXPIRED, CANCELLED and DEAD are final.")
    stop_reason: str | None = Field(
        None, description=f"Why the answer ended: {', '.join(StopReason)}. null: the job has not succeeded."
    )
    error: str | None = Field(None, description="Why the job ended without an answer. null: there is no error.")
    answer: str | None = Field(
        None, description="What the job's answer_pattern found in the text. null: there is no answer."
    )
    text: str = Field("", description="The whole text of the answer, without the prompt and the reasoning.")
    reasoning: str = Field(
        "", description="The reasoning trace of a thinking model, up to </think>. Empty: there is no trace."
    )
    attempt: int = Field(0, description="How many deliveries of the job counted as attempts.")
    params: Mapping[str, Any] | None = Field(
        None, description="Every parameter that was in force, the seed included. null: the job has not succeeded."
    )
    models: Mapping[str, Any] | None = Field(
        None,
        description="By role (draft, target, prm): model, revision, engine, engine_version, dtype, "
        "checkpoint_fingerprint, num_parameters (null: unknown), num_speculative_tokens and reading (of a PRM: "
        'authors, or the profile that was named; "": that of its architecture). null: the job has not succeeded.',
    )
    router: str | None = Field(
        None,
        description="SHA-256, in hexadecimal, of the file of the router that decided who writes a step. null: the "
        "method asks no router, or the job has not succeeded.",
    )
    prompt_tokens: int | None = Field(
        None, description="The prompt's tokens by the draft's chat template. null: the job has not succeeded."
    )
    rendered_prompt: str | None = Field(
        None, description="The prompt by the draft's chat template. null: the job does not keep_candidates."
    )
    code: str | None = Field(
        None, description="Version of the coordinator's code: release+digest. null: the job has not succeeded."
    )
    submitted_at: float | None = Field(None, description="When the job was submitted.")
    started_at: float | None = Field(None, description="When a coordinator first took the job. null: not yet.")
    finished_at: float | None = Field(None, description="When the job reached a final state. null: not yet.")
    steps: tuple[StepRecord, ...] = Field(
        (),
        description="The kept steps, or rounds, in order; with preset authors the last may not be part of the text.",
    )

    @classmethod
    def from_fields(cls, job_id: str, fields: Mapping[str, str], steps: Sequence[StepRecord]) -> Self:
        """Read the fields of a job's record in Redis, in which an absent value may be an empty text."""
        times = {name: fields.get(name) for name in ("submitted_at", "started_at", "finished_at")}
        return cls(
            id=job_id,
            state=JobState(fields["state"]),
            stop_reason=fields.get("stop_reason") or None,
            error=fields.get("error") or None,
            answer=fields.get("answer") or None,
            text=fields.get("text", ""),
            reasoning=fields.get("reasoning", ""),
            attempt=int(fields.get("attempt", 0)),
            params=json.loads(fields.get("params") or "null"),
            models=json.loads(fields.get("models") or "null"),
            router=fields.get("router") or None,
            prompt_tokens=int(fields["prompt_tokens"]) if fields.get("prompt_tokens") else None,
            rendered_prompt=fields.get("rendered_prompt") or None,
            code=fields.get("code") or None,
            steps=tuple(steps),
            **{name: int(milliseconds) / 1000 if milliseconds else None for name, milliseconds in times.items()},
        )
