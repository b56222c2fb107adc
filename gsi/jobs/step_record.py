"""The schema of a kept step: what a job's step stream, a result and a record of an evaluation say of it.

An entry of the step stream is a checkpoint, and what a follower reads. Most methods keep one step a round, and the
entry is that step. A method that keeps several trajectories adds ``branches``: which trajectory came out of which, with
its step; the entry's own step is then the leading trajectory's.

JSON has no infinities and no NaN: they are the strings "-Infinity", "Infinity" and "NaN". ``null`` means that no model
was asked. Version 0.1 also wrote null for a number that is not finite. Such a null is read as follows:

| field | null of version 0.1 is read as |
|---|---|
| ``reward``, ``best_reward`` | not asked; the algorithm ranks both as below every number |
| ``tilted_reward``, ``log_likelihood_target`` | not asked; no rule of the algorithm reads them from a kept step |
| ``rejected.reward`` | NaN, since a candidate is rejected by its reward |

``scripts/generate.py`` writes ``docs/step.schema.json`` from ``StepRecord``.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from gsi.algorithm.candidates import Branch, FinishReason, Judgement, Outcome, Rejected, Source, Step
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round

Number = TypeAliasType(
    "Number",
    Annotated[
        float,
        WithJsonSchema(
            {
                "anyOf": [{"type": "number"}, {"enum": ["-Infinity", "Infinity", "NaN"]}],
                "description": "A string where JSON has no number. Version 0.1 wrote null there.",
            }
        ),
    ],
)
# Of a value that is always asked: a null of version 0.1 is read as NaN.
NumberOrNull = Annotated[Number, BeforeValidator(lambda value: math.nan if value is None else value)]


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(values: tuple[object, ...]) -> bool:
    return not values


class Record(BaseModel):
    """What is written as JSON. Unknown fields are ignored, so that records of newer versions can be read."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        ser_json_inf_nan="strings",
        json_schema_serialization_defaults_required=True,  # a schema says which fields are always written
    )

    def to_json(self) -> str:
        return self.model_dump_json()

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        plain: dict[str, Any] = json.loads(self.to_json())
        return plain

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read JSON. Raises pydantic.ValidationError."""
        return cls.model_validate_json(text)


class RejectionRecord(Record):
    """The draft candidate that was selected and failed the method's test."""

    text: str = Field(description="What the draft wrote.")
    reward: NumberOrNull = Field(
        description="The PRM's number after the reward map. NaN: the PRM gave no number, or was not asked."
    )
    tilted_reward: Number | None = Field(
        None, description="reward + (log_likelihood_target - log_likelihood_draft) / beta. null: not computed."
    )
    log_likelihood_draft: Number = Field(description="Nats, summed over the candidate's tokens, under the draft.")
    log_likelihood_target: Number | None = Field(
        None, description="Nats, summed over the candidate's tokens, under the target. null: the target was not asked."
    )


class JudgementRecord(Record):
    """What a language model said of a candidate of the draft, instead of a reward model."""

    source: Source = Field(description="The model that judged.")
    probabilities: tuple[float, ...] = Field(
        description="Of each answer of the job's judge_prompt, in order: 0 to 9, or 0 and 1. They add up to 1."
    )
    score: float = Field(description="The likeliest answer, or the mean of the answers, as the job's judge_score says.")
    num_tokens: int = Field(description="Tokens that the model read for it: the candidate's and the question's.")

    def to_judgement(self) -> Judgement:
        return Judgement(**self.model_dump())


class KeptStep(Record):
    """A kept step: what one model wrote, up to the step delimiter or the end of the answer."""

    index: int = Field(description="The step's place in its trajectory, from 0.")
    token_ids: tuple[int, ...] = Field(description="The step's tokens, in the vocabulary of draft and target.")
    text: str = Field(description="The decoded tokens, the step delimiter included.")
    source: Source = Field(description="The model that wrote the step.")
    outcome: Outcome = Field(
        description="accepted: the draft's candidate passed, or the method has no test. resampled: it failed."
    )
    finish_reason: FinishReason = Field(
        description="delimiter: the step delimiter was complete. eos: the answer is complete. length: a token limit."
    )
    reward: Number | None = Field(
        None, description="The PRM's number after the reward map. null: the PRM was not asked. NaN: it gave no number."
    )
    best_reward: Number | None = Field(
        None,
        description="The highest reward among the candidates that the step was selected from, NaN counted as "
        "-Infinity. null: the PRM was not asked.",
    )
    tilted_reward: Number | None = Field(
        None, description="reward + (log_likelihood_target - log_likelihood_draft) / beta. null: not computed."
    )
    log_likelihood_draft: Number | None = Field(
        None, description="Nats, summed over token_ids, under the draft. null: the draft was not asked."
    )
    log_likelihood_target: Number | None = Field(
        None, description="Nats, summed over token_ids, under the target. null: the target was not asked."
    )
    rejected: RejectionRecord | None = Field(
        None, description="The draft candidate that the step replaces. null: none was rejected."
    )
    judgements: tuple[JudgementRecord, ...] = Field(
        (),
        exclude_if=_is_empty,
        description="What models said of the draft's candidate, which is the step or `rejected`, in the order of "
        "asking. Absent: no model was asked to judge.",
    )

    @classmethod
    def from_step(cls, step: Step, **others: Any) -> Self:
        """Return the record of a step; ``others`` are the fields that a subclass adds."""
        values = asdict(step)
        if math.isnan(step.best_reward):  # the best of rated candidates is never NaN: the PRM was not asked
            values["best_reward"] = None
            values["reward"] = None if math.isnan(step.reward) else step.reward
        return cls(**values, **others)

    def to_step(self) -> Step:
        """Return the step as the algorithm has it: a reward that was not asked is NaN there."""
        values = {field.name: getattr(self, field.name) for field in fields(Step)}
        values["reward"] = math.nan if self.reward is None else self.reward
        values["best_reward"] = math.nan if self.best_reward is None else self.best_reward
        values["rejected"] = None if self.rejected is None else Rejected(**self.rejected.model_dump())
        values["judgements"] = tuple(each.to_judgement() for each in self.judgements)
        return Step(**values)


class BranchRecord(Record):
    """How one trajectory came out of the round before."""

    parent: int = Field(description="The trajectory's place in the round before, from 0.")
    step: KeptStep | None = Field(None, description="The trajectory's new step. null: the trajectory was finished.")
    log_weight: Number | None = Field(
        None,
        exclude_if=_is_none,
        description="Logarithm of the trajectory's weight after the round. Absent: 0, or no weights.",
    )

    @classmethod
    def from_branch(cls, branch: Branch) -> Self:
        step = None if branch.step is None else KeptStep.from_step(branch.step)
        return cls(parent=branch.parent, step=step, log_weight=branch.log_weight or None)

    def to_branch(self) -> Branch:
        return Branch(self.parent, None if self.step is None else self.step.to_step(), self.log_weight or 0.0)


class CandidateRecord(Record):
    """A candidate of a proposal."""

    token_ids: tuple[int, ...] = Field(description="The candidate's tokens.")
    text: str = Field(description="The decoded tokens.")
    finish_reason: FinishReason = Field(description="Why the model stopped: delimiter, eos or length.")
    log_likelihood: Number = Field(description="Nats, summed over token_ids, under the model that wrote them.")
    reward: Number | None = Field(
        None,
        exclude_if=_is_none,
        description="The PRM's number after the reward map. Absent: the PRM was not asked. NaN: it gave no number.",
    )
    log_likelihood_target: Number | None = Field(
        None,
        exclude_if=_is_none,
        description="Nats, of a draft candidate under the target. Absent: the target was not asked. "
        "-Infinity: the target would never write the candidate.",
    )


class ProposalRecord(Record):
    """All candidates that one model wrote for one step, in the order of their indices."""

    source: Source = Field(description="The model that wrote the candidates.")
    parent: int = Field(
        0, description="The trajectory that the candidates continue: its place in the round before, from 0."
    )
    selected: int | None = Field(
        None, description="Index of the selected candidate. null: the method keeps candidates by another rule."
    )
    seconds: Mapping[str, float] = Field(
        description='From the start of the proposal to the end of drafting ("propose") and of each scorer '
        '("target", "prm") and judge ("judge by draft", "judge by target").'
    )
    candidates: tuple[CandidateRecord, ...]

    @classmethod
    def from_proposal(cls, proposal: Proposal) -> Self:
        """Return the record of a proposal, seconds rounded to microseconds."""
        rewards = [
            None if candidate.index in proposal.unrated else reward
            for candidate, reward in zip(proposal.candidates, proposal.scores.get("prm", ()), strict=False)
        ]
        scores = {"reward": rewards, "log_likelihood_target": proposal.scores.get("target")}
        asked = {name: values for name, values in scores.items() if values}
        return cls(
            source=proposal.source,
            parent=proposal.parent,
            selected=proposal.selected,
            seconds={name: round(seconds, 6) for name, seconds in proposal.seconds.items()},
            candidates=tuple(
                CandidateRecord(
                    token_ids=candidate.token_ids,
                    text=candidate.text,
                    finish_reason=candidate.finish_reason,
                    log_likelihood=candidate.log_likelihood,
                    **{name: values[candidate.index] for name, values in asked.items()},
                )
                for candidate in proposal.candidates
            ),
        )


class StepRecord(KeptStep):
    """A round: the kept step, or the leading trajectory's where a method keeps several, with the round's cost."""

    index: int = Field(
        description="The round's place in the job, from 0. It is the step's place in its trajectory, too, unless the "
        "trajectory began in a later round."
    )
    draft_tokens: int = Field(description="Tokens that the draft wrote in this round, discarded candidates included.")
    target_tokens: int = Field(description="Tokens that the target wrote in this round, discarded candidates included.")
    prm_tokens: int | None = Field(
        None,
        exclude_if=_is_none,
        description="Tokens that the PRM rated in this round, those before a candidate included that it had not read. "
        "Absent: those of all candidates, or none if reward is null.",
    )
    seconds: float = Field(description="How long the models took.")
    branches: tuple[BranchRecord, ...] = Field(
        (), exclude_if=_is_empty, description="A branch for each trajectory. Absent: the method keeps one trajectory."
    )
    proposals: tuple[ProposalRecord, ...] = Field(
        (), exclude_if=_is_empty, description="Every candidate. Absent: the job did not ask for keep_candidates."
    )

    @classmethod
    def from_round(cls, made: Round, *, keep_candidates: bool, index: int | None = None) -> Self:
        """Return the record of a round, seconds rounded to microseconds.

        ``index`` is the round's place in the job; by default that of the leading step in its trajectory.
        """
        is_only_trajectory = made.branches == (Branch(0, made.step),)
        return cls.from_step(
            made.step if index is None else replace(made.step, index=index),
            draft_tokens=made.num_tokens(Source.DRAFT),
            target_tokens=made.num_tokens(Source.TARGET),
            prm_tokens=made.num_rated_tokens if made.rates_some else None,
            seconds=round(made.seconds, 6),
            branches=() if is_only_trajectory else tuple(map(BranchRecord.from_branch, made.branches)),
            proposals=tuple(map(ProposalRecord.from_proposal, made.proposals)) if keep_candidates else (),
        )

    @property
    def num_rated_tokens(self) -> int:
        """How many tokens the PRM rated in this round."""
        if self.prm_tokens is not None:
            return self.prm_tokens
        return 0 if self.reward is None else self.draft_tokens + self.target_tokens

    def to_branches(self) -> tuple[Branch, ...]:
        """Return how each trajectory came out of the round before: what a job resumes from."""
        if not self.branches:
            return (Branch(0, self.to_step()),)
        return tuple(branch.to_branch() for branch in self.branches)
