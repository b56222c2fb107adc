"""Profiles of process reward models (PRMs): small TOML files that say how a family of models reads a trajectory.

The ready profiles lie in ``reward_profiles/``; ``docs/reward-models.md`` explains each field.
What a profile says is done by ``hugging_face/reward_families.py``.
"""

import tomllib
from collections.abc import Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gsi.errors import MisconfiguredError

FOLDER = Path(__file__).parent / "reward_profiles"
SUFFIX = ".toml"
CLASSIFIERS = ("*ForSequenceClassification", "*ForTokenClassification")  # their config.json counts the outputs


class Form(StrEnum):
    """How the conversation stands before the steps."""

    TEMPLATE = "template"  # the checkpoint's chat template; the steps are the assistant's answer
    PLAIN = "plain"  # the user's messages as they are, without the system message
    TURNS = "turns"  # the chat template; a step, or the answer, is a turn of the user; the assistant says its worth


class Rates(StrEnum):
    """What one reward is about."""

    STEP = "step"  # a mark stands behind each step
    ANSWER = "answer"  # the candidate is read as the end of the assistant's answer, closed by the chat template


class Strip(StrEnum):
    """What is cut from the end of a candidate before its mark."""

    NOTHING = "nothing"
    NEWLINES = "newlines"
    SPACE = "space"  # newlines and spaces, at both ends


class Tokenised(StrEnum):
    """How parts of the text become tokens."""

    APART = "apart"  # each part by itself
    TOGETHER = "together"  # as the tokenizer reads the part behind the text before it


class Output(StrEnum):
    """What is read of the model at the mark."""

    VALUE = "value"  # the one number of its head
    LABELS = "labels"  # the numbers of its head, one for each label
    TOKENS = "tokens"  # a language model's logits of the tokens that it may answer with


class Reward(StrEnum):
    """How what is read becomes a reward."""

    LOGISTIC = "logistic"  # of a value: 1 / (1 + exp(-value))
    SOFTMAX = "softmax"  # of labels or tokens: the probability of the good ones among all of them
    RAW = "raw"  # of a value: any real number, which the job's reward_map maps


class Combine(StrEnum):
    """Which of a candidate's rewards counts, where it has several marks."""

    LAST = "last"
    MEAN = "mean"
    MINIMUM = "minimum"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConversationPart(_Part):
    """How the conversation stands before the first step."""

    form: Form
    problem_end: str = Field("", description="Text behind the problem, tokenised with it (plain).")
    before_first_step: str = Field("", description="Text between the problem and the first step, tokenised with it.")
    turn: str = Field("", description="What the assistant answers to each kept step (turns).")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.form is Form.TURNS) != bool(self.turn):
            raise ValueError("turn: allowed with form turns, and needed there")
        if self.problem_end and self.form is not Form.PLAIN:
            raise ValueError("problem_end: allowed with form plain")
        return self


class StepsPart(_Part):
    """How steps and candidate stand behind the conversation."""

    rates: Rates = Rates.STEP
    mark: str = Field("", description="Text behind each step.")
    mark_token: str = Field("", description="A token of the vocabulary behind each step, in place of a text.")
    mark_last_token: bool = Field(False, description="Whether only the last token of the mark's text is used.")
    mark_kept: bool = Field(
        True,
        description="Whether kept steps have their mark too. False: they stand as they were written, as the language "
        "model reads them, and only the candidate has a mark.",
    )
    after_mark: str = Field("", description="Text behind the mark of a kept step.")
    separator: str = Field("", description='A step is split here, and each part has its own mark; "": it is not split.')
    strip: Strip = Strip.NEWLINES
    tokenised: Tokenised = Tokenised.APART

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.mark and self.mark_token:
            raise ValueError("mark, mark_token: allowed: one of the two")
        has_mark = bool(self.mark or self.mark_token)
        if self.rates is Rates.ANSWER and (has_mark or self.after_mark or self.separator):
            raise ValueError("mark, mark_token, after_mark, separator: not allowed with rates answer")
        if self.separator and not has_mark:
            raise ValueError("separator: needs a mark or a mark_token")
        if not self.mark_kept and (not has_mark or self.after_mark or self.separator):
            raise ValueError("mark_kept: false needs a mark or a mark_token, and no after_mark or separator")
        return self


class OutputPart(_Part):
    """What is read of the model, and how it becomes a reward."""

    read: Output
    reward: Reward
    num_labels: int = Field(2, ge=2, le=1000, description="How many labels the head has (labels).")
    good_labels: tuple[int, ...] = Field((1,), description="The labels that stand for a good step (labels).")
    good_tokens: tuple[str, ...] = Field((), description="What a language model answers to a good step (tokens).")
    bad_tokens: tuple[str, ...] = Field((), description="What it answers to a bad step (tokens).")
    combine: Combine = Combine.LAST

    @model_validator(mode="after")
    def _fits(self) -> Self:
        is_value = self.read is Output.VALUE
        if is_value == (self.reward is Reward.SOFTMAX):
            allowed = "logistic, raw" if is_value else "softmax"
            raise ValueError(
                f"reward: {self.reward.value} is not allowed with read {self.read.value}; allowed: {allowed}"
            )
        if self.read is Output.TOKENS and not (self.good_tokens and self.bad_tokens):
            raise ValueError("good_tokens, bad_tokens: needed with read tokens")
        if self.read is Output.LABELS and not set(self.good_labels) < set(range(self.num_labels)):
            raise ValueError(f"good_labels: allowed: some, not all, of 0 to {self.num_labels - 1}")
        return self

    @property
    def num_outputs(self) -> int:
        """How many numbers are read at a mark."""
        if self.read is Output.VALUE:
            return 1
        return self.num_labels if self.read is Output.LABELS else len(self.good_tokens) + len(self.bad_tokens)


class RewardProfile(_Part):
    """How one family of reward models reads a trajectory, and how its outputs become a reward."""

    name: str
    description: str = Field(min_length=1)
    source: str = Field(min_length=1, description="Where its authors say so.")
    architectures: tuple[str, ...] = Field(
        (),
        description="Architectures of config.json that are recognised, * for any text; none: by name only.",
    )
    reading: str = Field("", description='How GSI_PRM_READING calls it: "authors"; "" for all others.')
    authors: str = Field("", description="The profile that GSI_PRM_READING=authors takes in place of this one.")
    conversation: ConversationPart
    steps: StepsPart
    output: OutputPart

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        is_turns = self.conversation.form is Form.TURNS
        if self.steps.rates is Rates.STEP and not (is_turns or self.steps.mark or self.steps.mark_token):
            raise ValueError("steps: a mark or a mark_token is needed, behind which the reward is read")
        if is_turns and self.steps.model_fields_set - {"rates", "strip", "tokenised"}:
            raise ValueError("steps: with form turns, rates, strip and tokenised are allowed, and no mark")
        if self.steps.rates is Rates.ANSWER and self.conversation.form is Form.PLAIN:
            raise ValueError("steps.rates: answer is allowed with form template or turns")
        if self.output.combine is not Combine.LAST and not self.steps.separator:
            raise ValueError("output.combine: needs steps.separator: otherwise a candidate has one mark")
        return self

    @property
    def is_bounded(self) -> bool:
        """Whether every reward lies in [0, 1]; otherwise a reward may be any real number."""
        return self.output.reward is not Reward.RAW

    def fits(self, architecture: str, num_labels: int) -> bool:
        """Return whether checkpoints of this architecture are recognised as this family.

        ``num_labels``, of config.json, counts for classifiers only: other architectures say there what is not true.
        """
        if not any(fnmatchcase(architecture, pattern) for pattern in self.architectures):
            return False
        return not is_classifier(architecture) or num_labels == self.output.num_outputs


def is_classifier(architecture: str) -> bool:
    """Return whether an architecture has a head whose outputs config.json counts."""
    return any(fnmatchcase(architecture, pattern) for pattern in CLASSIFIERS)


@cache
def ready_profiles() -> tuple[RewardProfile, ...]:
    """Return the profiles that ship here, by name."""
    return tuple(read_profile(path) for path in sorted(FOLDER.glob(f"*{SUFFIX}")))


def load_profile(name: str) -> RewardProfile:
    """Return the ready profile of a name, or the profile in a file. Raises MisconfiguredError."""
    found = next((profile for profile in ready_profiles() if profile.name == name), None)
    if found is not None:
        return found
    path = Path(name)
    if path.suffix != SUFFIX and "/" not in name:
        raise MisconfiguredError(
            f"profile: there is no {name!r}; allowed: {', '.join(profile.name for profile in ready_profiles())}, "
            f"or the path of a {SUFFIX} file"
        )
    return read_profile(path)


def read_profile(path: Path) -> RewardProfile:
    """Read a profile from a file; the file's name is its name. Raises MisconfiguredError that names the field."""
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MisconfiguredError(f"profile: {path} cannot be read as TOML: {error}") from error
    try:
        return RewardProfile.model_validate({**fields, "name": path.stem})
    except ValidationError as error:
        raise MisconfiguredError(f"profile: {path}: {_describe(error.errors())}") from error


def _describe(errors: Sequence[Any]) -> str:
    """Return the first of the faults, with the field that has it."""
    first = errors[0]
    field = ".".join(map(str, first["loc"]))
    return ": ".join(part for part in (field, first["msg"].removeprefix("Value error, ")) if part)


def find_profile(architecture: str, num_labels: int) -> RewardProfile | None:
    """Return the ready profile that recognises a checkpoint; None if none does."""
    return next((profile for profile in ready_profiles() if profile.fits(architecture, num_labels)), None)
