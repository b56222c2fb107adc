"""Families of reward models: how a family reads a trajectory, and how its outputs become a reward.

A trajectory is read as a prefix, which is the conversation and the kept steps, and a candidate behind the prefix. The
reward comes from the outputs at the candidate's last token. The prefix of a step begins with the prefix of the step
before, so an engine may keep what it has read.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol

from transformers import PretrainedConfig

from gsi.algorithm.candidates import Message
from gsi.algorithm.weighting import logistic
from gsi.engines.base import STEP_DELIMITER, EngineSettings, Reading
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.errors import InternalError, MisconfiguredError

# Architectures, as the config.json of a checkpoint names them.
QWEN_PROCESS_REWARD = "Qwen2ForProcessRewardModel"
SKYWORK_PROCESS_REWARD = "Qwen2ForPrmModel"
CLASSIFIER = "ForSequenceClassification"  # the end of the name: LlamaForSequenceClassification, ...
FAMILIES = f"{QWEN_PROCESS_REWARD}, {SKYWORK_PROCESS_REWARD}, *{CLASSIFIER}"

STEP_MARK = "<extra_0>"  # of Qwen2.5-Math-PRM: it stands behind each step, in place of the step delimiter


class RewardFamily(Protocol):
    """How the models of one family read a trajectory."""

    @property
    def is_bounded(self) -> bool:
        """Whether every reward lies in [0, 1]; otherwise a reward may be any real number."""
        ...

    @property
    def reading(self) -> str:
        """Return "authors" for a family that reads as the authors' code does, else ""."""
        ...

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        """Return the token ids of conversation and kept steps."""
        ...

    def candidate(self, text: str) -> list[int]:
        """Return the token ids of a candidate behind its prefix; the reward is read at the last of them."""
        ...

    def reward(self, outputs: Sequence[float]) -> float:
        """Return the reward from the model's raw outputs at the candidate's last token."""
        ...


def read_architecture(settings: EngineSettings) -> tuple[str, int]:
    """Return the first architecture in a checkpoint's config.json ("none" without any), and its number of labels."""
    described, _ = PretrainedConfig.get_config_dict(settings.model, revision=settings.revision)
    config = PretrainedConfig.from_dict(described)  # applies the rules of transformers for labels
    return next(iter(config.architectures or ["none"])), config.num_labels


def find_family(
    architecture: str, num_labels: int, tokenizer: Tokenizer, model: str, reading: Reading = Reading.MODEL_CARD
) -> RewardFamily | None:
    """Return the family of an architecture; None if no family here has it.

    ``num_labels``: the outputs of a sequence classifier, by its config; ``model``: the checkpoint's name, for errors.
    Raises MisconfiguredError for a checkpoint that cannot be read, or not by ``reading``.
    """
    is_authors = reading is Reading.AUTHORS
    if architecture == QWEN_PROCESS_REWARD:
        return QwenReadByAuthors(tokenizer, model) if is_authors else QwenProcessReward(tokenizer, model)
    if architecture == SKYWORK_PROCESS_REWARD:
        return SkyworkReadByAuthors(tokenizer) if is_authors else SkyworkProcessReward(tokenizer)
    if is_authors:
        raise MisconfiguredError(
            f"reading: authors is not allowed for {model}, a {architecture}; allowed: model-card "
            f"(authors: {QWEN_PROCESS_REWARD}, {SKYWORK_PROCESS_REWARD})"
        )
    if not architecture.endswith(CLASSIFIER):
        return None
    if num_labels not in (1, 2):
        raise MisconfiguredError(f"{model} has {num_labels} labels; allowed for a reward: 1 value, or 2 labels")
    return OutcomeReward(tokenizer, is_bounded=num_labels == 2)


def read_reward(family: RewardFamily, outputs: Sequence[float]) -> float:
    """Return the family's reward. Raises InternalError if it is not finite, or outside the range of the family."""
    reward = family.reward(outputs)
    if not math.isfinite(reward) or (family.is_bounded and not 0 <= reward <= 1):
        raise InternalError(f"the reward model gave {outputs}")
    return reward


class QwenProcessReward:
    """Qwen2.5-Math-PRM and the PRM that ships here: a mark behind each step, and two labels, bad and good.

    Source: the model card of Qwen/Qwen2.5-Math-PRM-7B.
    """

    is_bounded: ClassVar = True
    reading: ClassVar[str] = ""

    def __init__(self, tokenizer: Tokenizer, model: str) -> None:
        self._tokenizer = tokenizer
        mark = tokenizer.token_id(STEP_MARK)
        if mark is None:
            raise MisconfiguredError(f"{model} has no token {STEP_MARK}: not a PRM that this engine can read")
        self._mark = mark

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        token_ids = list(self._tokenizer.render(messages))
        for step in steps:
            token_ids += self._kept(step)
        return token_ids

    def candidate(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text.rstrip("\n")), self._mark]

    def _kept(self, step: str) -> list[int]:
        return self.candidate(step)

    def reward(self, outputs: Sequence[float]) -> float:
        bad, good = outputs
        return logistic(good - bad)  # softmax over two labels


class QwenReadByAuthors(QwenProcessReward):
    """The same models, read as GSI's authors read them: a mark in place of each delimiter, and one behind it all.

    A candidate that ends with the delimiter so has two marks, and its reward is read at the second. A kept step has
    one: its reward was read at a place that later steps do not see. Source: their repository j-geuter/GSI, whose copy
    of reward_hub splits the answer at the delimiter, joins the parts with marks, and adds a mark.
    """

    reading: ClassVar[str] = Reading.AUTHORS.value

    def candidate(self, text: str) -> list[int]:
        return [*self._kept(text), self._mark]

    def _kept(self, step: str) -> list[int]:
        return _encode_parts(self._tokenizer, step, STEP_DELIMITER, self._mark)


class SkyworkProcessReward:
    """Skywork-o1-Open-PRM: no chat template, a newline behind the problem and behind each step, and one value.

    Source: the repository SkyworkAI/skywork-o1-prm-inference, which the model cards refer to.
    """

    is_bounded: ClassVar = True
    reading: ClassVar[str] = ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._step_end = tokenizer.encode("\n")[-1]

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        problem = "\n".join(message.content for message in messages if message.role == "user")
        token_ids = [*self._tokenizer.begin_token_ids, *self._tokenizer.encode(f"{problem}\n")]
        for step in steps:
            token_ids += self._kept(step)
        return token_ids

    def candidate(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text.rstrip("\n")), self._step_end]

    def _kept(self, step: str) -> list[int]:
        return self.candidate(step)

    def reward(self, outputs: Sequence[float]) -> float:
        (value,) = outputs
        return logistic(value)


class SkyworkReadByAuthors(SkyworkProcessReward):
    """The same models, read as Skywork's own code reads an answer: each line, an empty one too, is a step.

    Each line is tokenised by itself, with the token of a newline behind it. The code adds a newline behind the last
    line, too: a candidate that ends with the delimiter has three. Source: ``prepare_input`` of the repository
    SkyworkAI/skywork-o1-prm-inference with the step token of its example, a newline.
    """

    reading: ClassVar[str] = Reading.AUTHORS.value

    def candidate(self, text: str) -> list[int]:
        return [*self._kept(text), self._step_end]

    def _kept(self, step: str) -> list[int]:
        return _encode_parts(self._tokenizer, step, "\n", self._step_end)


def _encode_parts(tokenizer: Tokenizer, text: str, separator: str, mark: int) -> list[int]:
    """Return the token ids of a text with ``mark`` in place of each separator; the parts are tokenised one by one."""
    first, *others = text.split(separator)
    token_ids = list(tokenizer.encode(first))
    for part in others:
        token_ids += [mark, *tokenizer.encode(part)]
    return token_ids


class OutcomeReward:
    """A sequence classifier over a finished conversation, such as Skywork-Reward.

    The candidate is read as the end of the assistant's answer. With one output the reward is that output, any real
    number, and the job says how to map it. With two labels, bad and good, the reward is the softmax of the second.
    """

    def __init__(self, tokenizer: Tokenizer, *, is_bounded: bool) -> None:
        self.is_bounded = is_bounded
        self.reading = ""
        self._tokenizer = tokenizer
        self._closing = tokenizer.close_answer()

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        token_ids = list(self._tokenizer.render(messages))
        for step in steps:
            token_ids += self._tokenizer.encode(step)
        return token_ids

    def candidate(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text.rstrip("\n")), *self._closing]  # a finished answer ends in no newline

    def reward(self, outputs: Sequence[float]) -> float:
        if len(outputs) == 1:
            return outputs[0]
        bad, good = outputs
        return logistic(good - bad)
