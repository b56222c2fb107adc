"""Families of reward models: how each reads a trajectory, and how its outputs become a reward.

A trajectory is read as a prefix (the conversation and the kept steps) and, behind it, a candidate; the outputs are
those at the candidate's last token. A prefix is the beginning of the next step's: an engine can keep what it has read.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from gsi.algorithm.candidates import Message
from gsi.engines.tokenizer_engine import Tokenizer
from gsi.errors import MisconfiguredError

STEP_MARK = "<extra_0>"  # Qwen2.5-Math-PRM's: stands behind each step, in place of the delimiter


class RewardFamily(Protocol):
    """One way to read a trajectory."""

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        """Return the token ids of conversation and kept steps."""
        ...

    def candidate(self, text: str) -> list[int]:
        """Return the token ids of a candidate behind its prefix; the last is where its reward is read."""
        ...

    def reward(self, outputs: Sequence[float]) -> float:
        """Return the reward in [0, 1] from the model's raw outputs at the candidate's last token."""
        ...


class QwenProcessReward:
    """Qwen2.5-Math-PRM and the PRM that ships here: a mark behind each step, two labels, bad and good.

    Source: the model card of Qwen/Qwen2.5-Math-PRM-7B.
    """

    def __init__(self, tokenizer: Tokenizer, model: str) -> None:
        self._tokenizer = tokenizer
        mark = tokenizer.token_id(STEP_MARK)
        if mark is None:
            raise MisconfiguredError(f"{model} has no token {STEP_MARK}: not a PRM that this engine can read")
        self._mark = mark

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        token_ids = list(self._tokenizer.render(messages))
        for step in steps:
            token_ids += self.candidate(step)
        return token_ids

    def candidate(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text.rstrip("\n")), self._mark]

    def reward(self, outputs: Sequence[float]) -> float:
        bad, good = outputs
        return logistic(good - bad)  # softmax over two labels


class SkyworkProcessReward:
    """Skywork-o1-Open-PRM: no chat template, a newline behind the problem and behind each step, one value.

    Source: the repository SkyworkAI/skywork-o1-prm-inference, as its model cards use it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._step_end = tokenizer.encode("\n")[-1]

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        problem = "\n".join(message.content for message in messages if message.role == "user")
        token_ids = list(self._tokenizer.encode(f"{self._tokenizer.bos_token}{problem}\n"))
        for step in steps:
            token_ids += self.candidate(step)
        return token_ids

    def candidate(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text.rstrip("\n")), self._step_end]

    def reward(self, outputs: Sequence[float]) -> float:
        (value,) = outputs
        return logistic(value)


class OutcomeReward:
    """A sequence classifier over a finished conversation, such as Skywork-Reward: one value, of any size.

    The candidate is read as the end of the assistant's answer. The logistic function maps the value to (0, 1), as the
    Bradley-Terry loss that such models are trained with does; with two labels it is their softmax.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._closing = tokenizer.closing_of_answer()

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        token_ids = list(self._tokenizer.render(messages))
        for step in steps:
            token_ids += self._tokenizer.encode(step)
        return token_ids

    def candidate(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text.rstrip("\n")), *self._closing]  # a finished answer ends in no newline

    def reward(self, outputs: Sequence[float]) -> float:
        return logistic(outputs[0] if len(outputs) == 1 else outputs[1] - outputs[0])


def logistic(value: float) -> float:
    """Return 1 / (1 + exp(-value)) without overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
