"""Responses as OpenAI's clients read them: the object, and the events of a stream."""

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from gsi.algorithm.stopping import StopReason
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from services.gateway.answers import Answers, message_of
from services.gateway.errors import ApiError
from services.gateway.requests import ResponseRequest
from services.gateway.texts import ReasoningSplitter
from services.gateway.tokens import Tokens
from services.gateway.translation import Order

STATUS: Mapping[JobState, str] = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "in_progress",
    JobState.SUCCEEDED: "completed",
    JobState.CANCELLED: "cancelled",
}  # any other: failed
LIMITS = frozenset({StopReason.MAX_STEPS, StopReason.MAX_TOKENS})


class Kept(BaseModel):
    """What is kept of a response beside its job."""

    model_config = ConfigDict(frozen=True)

    id: str
    job_id: str
    model: str
    queue: str
    created_at: int
    thinking: bool | None = None
    stop: tuple[str, ...] = ()
    drops_low_step_below: float | None = None
    background: bool = False
    store: bool = True
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    previous_response_id: str | None = None


def keep(order: Order, body: ResponseRequest, created_at: int) -> Kept:
    """Return what is to be kept of a response whose job is the order's."""
    (job,) = order.jobs
    return Kept(
        id=f"resp_{job.job_id}",
        job_id=job.job_id,
        model=order.model,
        queue=order.preset.queue,
        created_at=created_at,
        thinking=order.thinking,
        stop=order.stop,
        drops_low_step_below=order.drops_low_step_below,
        background=bool(body.background),
        store=body.store is not False,
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        metadata=body.metadata,
        user=body.user,
        previous_response_id=body.previous_response_id,
    )


def describe(kept: Kept, record: JobRecord | None, error: ApiError | None = None) -> dict[str, Any]:
    """Return a response as its job is now; ``record`` None: it was just submitted."""
    tokens = Tokens()
    for step in record.steps if record else ():
        tokens.add_step(step)
    fields = record.fields if record else {}
    tokens.prompt = int(fields.get("prompt_tokens") or 0)
    is_limited = fields.get("stop_reason") in LIMITS
    status = _status_of(record, is_limited=is_limited, has_error=error is not None)
    return {
        "id": kept.id,
        "object": "response",
        "created_at": kept.created_at,
        "status": status,
        "background": kept.background,
        "error": _describe_error(record, error) if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_limited else None,
        "instructions": kept.instructions,
        "max_output_tokens": kept.max_output_tokens,
        "model": kept.model,
        "output": _output(kept, record),
        "parallel_tool_calls": True,
        "previous_response_id": kept.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "store": kept.store,
        "temperature": kept.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": kept.top_p,
        "truncation": "disabled",
        "usage": describe_usage(tokens) if status in {"completed", "incomplete"} else None,
        "user": kept.user,
        "metadata": kept.metadata or {},
        "gsi": {
            "job": kept.job_id,
            "answer": fields.get("answer") or None,
            "num_steps": len(record.steps if record else ()),
        },
    }


def _status_of(record: JobRecord | None, *, is_limited: bool, has_error: bool) -> str:
    if has_error or is_limited:
        return "failed" if has_error else "incomplete"
    return STATUS.get(record.state, "failed") if record else "queued"


async def events_of(kept: Kept, answers: Answers) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of a response, each with its number; they are the same each time that they are read."""
    numbers, text = itertools.count(), ""
    item: dict[str, Any] = {"id": _message_id(kept), "type": "message", "role": "assistant", "status": "in_progress"}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}

    def event(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "sequence_number": next(numbers), **fields}

    yield event("created", response=describe(kept, None))
    yield event("in_progress", response={**describe(kept, None), "status": "in_progress"})
    yield event("output_item.added", output_index=0, item={**item, "content": []})
    yield event("content_part.added", **place, part=_part(""))
    async for piece in answers.pieces():
        if piece.delta.content:
            text += piece.delta.content
            yield event("output_text.delta", **place, delta=piece.delta.content, logprobs=[])
    record = answers.choices[0].record
    whole = describe(kept, record)
    yield event("output_text.done", **place, text=text, logprobs=[])
    yield event("content_part.done", **place, part=_part(text))
    yield event("output_item.done", output_index=0, item=whole["output"][-1] if whole["output"] else item)
    yield event(str(whole["status"]), response=whole)


def failure_event(kept: Kept, record: JobRecord | None, error: ApiError, number: int) -> dict[str, Any]:
    """Return the last event of a response whose job ended without an answer."""
    return {"type": "response.failed", "sequence_number": number, "response": describe(kept, record, error)}


def _output(kept: Kept, record: JobRecord | None) -> list[dict[str, Any]]:
    if record is None or not (record.steps or record.fields.get("text")):
        return []
    is_final = record.state is JobState.SUCCEEDED
    has_branches = any(step.branches for step in record.steps)
    so_far = "" if has_branches else "".join(step.text for step in record.steps)
    found = message_of(record) if is_final else ReasoningSplitter(kept.thinking).feed(so_far)
    message = {
        "id": _message_id(kept),
        "type": "message",
        "role": "assistant",
        "status": "completed" if is_final else "incomplete" if record.state.is_finished else "in_progress",
        "content": [_part(found.content)],
    }
    return [*([_reasoning(kept, found.reasoning)] if found.reasoning else []), message]


def _reasoning(kept: Kept, text: str) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": f"rs_{kept.job_id}", "type": "reasoning", "summary": [], "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message_id(kept: Kept) -> str:
    return f"msg_{kept.job_id}"


def _describe_error(record: JobRecord | None, error: ApiError | None) -> dict[str, Any]:
    reason = str(error) if error else (record.fields.get("error") if record else None) or "no reason is known"
    is_client = record is not None and record.state is JobState.FAILED
    return {"code": "invalid_prompt" if is_client else "server_error", "message": reason}


def describe_usage(tokens: Tokens) -> dict[str, Any]:
    """Return the tokens of a response, or of a batch."""
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": tokens.answer,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.prompt + tokens.answer,
        "gsi": {"draft_tokens": tokens.draft, "target_tokens": tokens.target, "prm_tokens": tokens.prm},
    }


def to_event(document: Mapping[str, Any]) -> bytes:
    """Return a server-sent event with its type as its name."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return f"event: {document['type']}\ndata: {data}\n\n".encode()
