"""A round of steps as it is written to the job's step stream: the checkpoint, and what a follower reads.

Most methods keep one step a round, and the record is that step. A method that keeps several trajectories adds
``branches``: which trajectory came out of which, with its step; the record's own step is the leading one's.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gsi.algorithm.candidates import Branch, FinishReason, Outcome, Rejected, Source, Step
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step with its cost: tokens that each model wrote for it, the discarded ones too, and seconds."""

    step: Step
    draft_tokens: int
    target_tokens: int
    seconds: float
    branches: tuple[Branch, ...] = ()  # empty: the step extends the only trajectory
    proposals: tuple[Mapping[str, Any], ...] = ()  # every candidate with its numbers, where the job asks to keep them

    @staticmethod
    def of(made: Round, *, keep_candidates: bool) -> "StepRecord":
        """Return the record of a round."""
        return StepRecord(
            made.step,
            made.num_tokens(Source.DRAFT),
            made.num_tokens(Source.TARGET),
            made.seconds,
            branches=() if made.branches == (Branch(0, made.step),) else made.branches,
            proposals=tuple(map(_proposal, made.proposals)) if keep_candidates else (),
        )

    @property
    def round(self) -> tuple[Branch, ...]:
        """Return how each trajectory came out of the round before."""
        return self.branches or (Branch(0, self.step),)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values. JSON knows no infinity and no NaN: both are null."""
        cost = {
            "draft_tokens": self.draft_tokens,
            "target_tokens": self.target_tokens,
            "seconds": round(self.seconds, 6),
        }
        branches = [{"parent": b.parent, "step": _plain(b.step) if b.step else None} for b in self.branches]
        more = {"branches": branches, "proposals": list(self.proposals)}
        return _plain(self.step) | cost | {name: value for name, value in more.items() if value}

    @staticmethod
    def from_json(text: str | bytes) -> "StepRecord":
        fields: dict[str, Any] = json.loads(text)
        cost = {name: fields.pop(name) for name in ("draft_tokens", "target_tokens", "seconds")}
        branches = tuple(
            Branch(branch["parent"], _step(branch["step"]) if branch["step"] else None)
            for branch in fields.pop("branches", [])
        )
        proposals = tuple(fields.pop("proposals", []))
        return StepRecord(_step(fields), **cost, branches=branches, proposals=proposals)


def _plain(step: Step) -> dict[str, Any]:
    fields = asdict(step)
    rejected = fields.pop("rejected")
    return _finite(fields) | {"rejected": rejected and _finite(rejected)}


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
    return Rejected(**{**fields, "reward": _or_nan(fields["reward"])})


def _proposal(proposal: Proposal) -> dict[str, Any]:
    """Return plain values, which ``gsi.evaluation.records`` reads: here infinities and NaN are words."""
    columns = {"reward": proposal.scores.get("prm"), "log_likelihood_target": proposal.scores.get("target")}
    return {
        "source": proposal.source,
        "parent": proposal.parent,
        "selected": proposal.selected,
        "seconds": {name: round(seconds, 6) for name, seconds in proposal.seconds.items()},
        "candidates": [
            {
                "token_ids": candidate.token_ids,
                "text": candidate.text,
                "finish_reason": candidate.finish_reason,
                "log_likelihood": candidate.log_likelihood,
                **{name: _word(values[candidate.index]) for name, values in columns.items() if values is not None},
            }
            for candidate in proposal.candidates
        ],
    }


def _word(value: float) -> float | str:
    """Return a number, or the word that JSON has in its place."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
