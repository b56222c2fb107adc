"""A kept step as it is written to the job's step stream: the checkpoint, and what a follower reads."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gsi.algorithm.candidates import FinishReason, Outcome, Rejected, Source, Step


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step with its cost: tokens that each model wrote for it, the discarded ones too, and seconds."""

    step: Step
    draft_tokens: int
    target_tokens: int
    seconds: float

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values. JSON knows no infinity and no NaN: both are null."""
        fields = asdict(self.step)
        rejected = fields.pop("rejected")
        cost = {
            "draft_tokens": self.draft_tokens,
            "target_tokens": self.target_tokens,
            "seconds": round(self.seconds, 6),
        }
        return _finite(fields) | {"rejected": rejected and _finite(rejected)} | cost

    @staticmethod
    def from_json(text: str | bytes) -> "StepRecord":
        fields: dict[str, Any] = json.loads(text)
        cost = {name: fields.pop(name) for name in ("draft_tokens", "target_tokens", "seconds")}
        return StepRecord(_step(fields), **cost)


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()
    }


def _step(fields: dict[str, Any]) -> Step:
    rejected = fields.pop("rejected")
    step = Step(**fields)
    return replace(
        step,
        token_ids=tuple(step.token_ids),
        source=Source(step.source),
        outcome=Outcome(step.outcome),
        finish_reason=FinishReason(step.finish_reason),
        reward=_or_nan(step.reward),
        best_reward=_or_nan(step.best_reward),
        rejected=_rejected(rejected) if rejected else None,
    )


def _rejected(fields: Mapping[str, Any]) -> Rejected:
    numbers = {name: _or_nan(value) for name, value in fields.items() if name != "text"}
    return Rejected(fields["text"], **numbers)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
