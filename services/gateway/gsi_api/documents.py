"""The bodies of answers of ``/gsi/v1``. Times are seconds since 1970 by the clock of the Redis server."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gsi.jobs.listing import JobSummary, read_payload
from gsi.jobs.overview import Coordinator, Letter, Overview
from gsi.jobs.progress import Progress
from gsi.jobs.reader import JobRecord
from services.gateway.guard import Caller
from services.gateway.tokens import Tokens

SHOWN_QUESTION = 200  # characters, in a list
SHOWN_ANSWER = 200
SHOWN_ERROR = 1000
ASKED = ("prompt", "system", "messages")


def describe_summary(queue: str, job: JobSummary, progress: Progress | None) -> dict[str, Any]:
    """Return a job as lists have it: its question, answer and error are cut."""
    return {
        "id": job.id,
        "queue": queue,
        "state": job.state,
        "method": job.method,
        "tenant": job.tenant,
        "lane": job.lane,
        "submitted_at": job.submitted_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "num_steps": job.num_steps,
        "acceptance": progress.acceptance if progress else None,
        "prompt": _cut(job.question, SHOWN_QUESTION),
        "answer": _cut(job.answer, SHOWN_ANSWER),
        "error": _cut(job.error, SHOWN_ERROR),
    }


def describe_job(summary: Mapping[str, Any], record: JobRecord) -> dict[str, Any]:
    """Return a job with its question, its text, and what it cost; ``summary``: as ``describe_summary`` has it.

    The question and the parameters that were asked for are those of the payload: null once a long one is deleted.
    """
    told = record.document.model_copy(update={"steps": ()}).to_dict()
    del told["steps"], told["attempt"]
    payload = read_payload(record.fields.get("payload"))
    told["params"] = told["params"] or payload.get("params")
    usage, seconds = _count_tokens(record), _sum_seconds(record)
    return {
        **summary,
        **told,
        **{name: payload.get(name) for name in ASKED},
        "answer": record.answer,
        "error": record.error or record.fields.get("last_error") or None,
        "dead_reason": record.fields.get("dead_reason") or None,
        "attempts": record.document.attempt,
        "usage": usage,
        "seconds": seconds,
    }


def describe_whole(summary: Mapping[str, Any], record: JobRecord) -> dict[str, Any]:
    """Return a job and its steps, each by ``docs/step.schema.json``."""
    return {"job": describe_job(summary, record), "steps": [step.to_dict() for step in record.steps]}


def describe_queue(queue: str, found: Overview, caller: Caller) -> dict[str, Any]:
    """Return a queue: its counts are of all tenants, its jobs of those that the caller may look at."""
    return {
        "queue": queue,
        "is_paused": found.is_paused,
        "lanes": [asdict(lane) for lane in found.lanes],
        "delayed": found.num_delayed,
        "parked": found.num_parked,
        "dead": found.num_dead,
        "coordinators": [_describe_coordinator(each, caller) for each in found.coordinators],
        "finished_last_minute": dict(found.finished_last_minute),
        "dead_letters": [_describe_letter(each) for each in found.letters if caller.sees(each.tenant or "")],
    }


def _describe_coordinator(coordinator: Coordinator, caller: Caller) -> dict[str, Any]:
    jobs = [job.id for job in coordinator.jobs if caller.sees(job.tenant)]
    return {"name": coordinator.name, "num_jobs": coordinator.num_jobs, "jobs": jobs}


def _describe_letter(each: Letter) -> dict[str, Any]:
    letter = each.letter
    return {
        "id": letter.job_id,
        "reason": letter.reason,
        "error": _cut(letter.error, SHOWN_ERROR),
        "attempts": each.attempts,
        "tenant": each.tenant,
        "at": letter.died_at,
    }


def _count_tokens(record: JobRecord) -> dict[str, int]:
    """Return the tokens by role, as the usage of ``/v1`` counts them."""
    tokens = Tokens(prompt=int(record.fields.get("prompt_tokens") or 0))
    for step in record.steps:
        tokens.add_step(step)
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.answer,
        "draft_tokens": tokens.draft,
        "target_tokens": tokens.target,
        "prm_tokens": tokens.prm,
    }


def _sum_seconds(record: JobRecord) -> dict[str, float | None]:
    """Return how long the job waited and ran, and how long its models took: of the steps, and by phase.

    The phases are known of jobs that keep their candidates. They overlap: each is counted from its proposal's start.
    """
    job = record.document
    phases: Counter[str] = Counter()
    for step in record.steps:
        for proposal in step.proposals:
            phases.update(proposal.seconds)
    return {
        "waiting": _between(job.submitted_at, job.started_at),
        "running": _between(job.started_at, job.finished_at),
        "models": round(sum(step.seconds for step in record.steps), 6),
        **{name: round(value, 6) for name, value in sorted(phases.items())},
    }


def _between(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else round(max(0.0, last - first), 3)


def _cut(text: str | None, most: int) -> str | None:
    return text if text is None or len(text) <= most else f"{text[: most - 1]}…"
