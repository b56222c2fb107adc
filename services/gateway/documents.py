"""The bodies of answers, as OpenAI's clients read them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.gateway.answers import Answers, Choice, Piece
from services.gateway.presets import Preset
from services.gateway.texts import Delta
from services.gateway.tokens import Tokens

OWNER = "gsi"


@dataclass(frozen=True, slots=True)
class Document:
    """What the documents of one answer share."""

    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class ChatDocument(Document):
    """The answers of ``/v1/chat/completions``."""

    def whole(self, answers: Answers) -> dict[str, Any]:
        choices = [
            {
                "index": choice.index,
                "message": {"role": "assistant", "refusal": None, **_message(answers.message_of(choice))},
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for choice in answers.choices
        ]
        return {**self._head("chat.completion"), "choices": choices, **_end(answers)}

    def begin(self, answers: Answers) -> list[dict[str, Any]]:
        """Return the first chunk of each choice, which names the role."""
        return [self._chunk(choice, {"role": "assistant", "content": ""}) for choice in answers.choices]

    def chunks(self, answers: Answers, piece: Piece) -> list[dict[str, Any]]:
        delta = {name: text for name, text in _message(piece.delta).items() if text}
        extra = _step_of(answers, piece)
        chunks = [self._chunk(piece.choice, delta, extra)] if delta or extra else []
        if piece.is_end:
            chunks.append(self._chunk(piece.choice, {}, finish_reason=piece.choice.finish_reason))
        return chunks

    def usage(self, answers: Answers) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk"), "choices": [], **_end(answers)}

    def _chunk(
        self,
        choice: Choice,
        delta: Mapping[str, Any],
        extra: Mapping[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        shown = {"index": choice.index, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [shown], **(extra or {})}


class TextDocument(Document):
    """The answers of ``/v1/completions``: texts, in which reasoning stands as it was written."""

    def whole(self, answers: Answers) -> dict[str, Any]:
        choices = [
            _text_choice(choice, _plain(answers.message_of(choice)), choice.finish_reason) for choice in answers.choices
        ]
        return {**self._head("text_completion"), "choices": choices, **_end(answers)}

    def begin(self, _answers: Answers) -> list[dict[str, Any]]:
        return []

    def chunks(self, answers: Answers, piece: Piece) -> list[dict[str, Any]]:
        text, extra = _plain(piece.delta), _step_of(answers, piece)
        if not (text or extra or piece.is_end):
            return []
        reason = piece.choice.finish_reason if piece.is_end else None
        return [{**self._head("text_completion"), "choices": [_text_choice(piece.choice, text, reason)], **extra}]

    def usage(self, answers: Answers) -> dict[str, Any]:
        return {**self._head("text_completion"), "choices": [], **_end(answers)}


def list_models(presets: Mapping[str, Preset]) -> dict[str, Any]:
    """Return the list of ``GET /v1/models``."""
    return {"object": "list", "data": [describe_model(name, preset) for name, preset in presets.items()]}


def describe_model(name: str, preset: Preset) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER, "description": preset.description}


def to_json(document: Mapping[str, Any]) -> str:
    """Return one line of JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _message(delta: Delta) -> dict[str, Any]:
    return {"content": delta.content, **({"reasoning_content": delta.reasoning} if delta.reasoning else {})}


def _plain(delta: Delta) -> str:
    return delta.reasoning + delta.content


def _text_choice(choice: Choice, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": choice.index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _end(answers: Answers) -> dict[str, Any]:
    jobs = [_job(choice, with_steps=answers.order.with_steps) for choice in answers.choices]
    return {"usage": _usage(answers.tokens), "gsi": {"jobs": jobs}}


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.answer,
        "total_tokens": tokens.prompt + tokens.answer,
        "gsi": {"draft_tokens": tokens.draft, "target_tokens": tokens.target, "prm_tokens": tokens.prm},
    }


def _job(choice: Choice, *, with_steps: bool) -> dict[str, Any]:
    fields = choice.record.fields if choice.record else {}
    params = json.loads(fields.get("params") or "{}")
    told = {
        "id": choice.job_id,
        "stop_reason": fields.get("stop_reason") or None,
        "answer": fields.get("answer") or None,
        "method": params.get("method"),
        "temperature": params.get("temperature"),
        "seed": params.get("seed"),
        "num_steps": len(choice.steps),
    }
    return {**told, "steps": [step.to_dict() for step in choice.steps]} if with_steps else told


def _step_of(answers: Answers, piece: Piece) -> dict[str, Any]:
    if piece.step is None or not answers.order.with_steps:
        return {}
    return {"gsi": {"choice": piece.choice.index, "step": piece.step.to_dict()}}
