"""Engines that answer at once: what is left of a step is the system around the models.

Candidates have the length of a step in the paper, and are always accepted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Score
from gsi.algorithm.judging import Question
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, ScoreBatches, TextBatches, TokenBatches
from gsi.engines.base import EngineSettings, wait_forever
from gsi.model_info import ModelInfo

STEP_TOKENS = 24  # GSI paper, Table 2: 23.5
TEXT = "So there are twelve shells on Monday, and twenty-four on the day after.\n\n"
PROMPT = tuple(range(1, 101))
LOG_LIKELIHOOD = -12.0  # of every candidate under both models, so that a candidate is judged by its reward
REWARD = 0.9  # above the threshold u
HELD_SECONDS = 4.0

INFO = ModelInfo(
    model="no-op",
    revision="",
    tokenizer_fingerprint="no-op",
    vocabulary_size=1000,
    max_length=131_072,
    eos_token_ids=(0,),
    step_delimiter_token_ids=(1,),
    likelihoods=tuple(Likelihood),
    engine="no-op",
    engine_version="",
    can_judge=True,
)


class NoOpEngine:
    """What all of them share."""

    info = INFO

    @classmethod
    async def load(cls, settings: EngineSettings) -> Self:
        return cls()

    async def wait_until_dead(self) -> str:
        return await wait_forever()

    def close(self) -> None:
        """There is nothing to release."""


class Together(NoOpEngine):
    """A language model whose candidates all finish at once."""

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return PROMPT

    def show(self, token_ids: Sequence[int]) -> str:
        return ""

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        yield [write_candidate(index) for index in range(n)]

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(candidate.index, LOG_LIKELIHOOD) for candidate in batch]

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        return LabelProbabilities((*(0.0 for _ in question.labels[1:]), 1.0), STEP_TOKENS)


class OneByOne(Together):
    """A language model that offers each candidate by itself, though one follows at the heels of the other."""

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        for index in range(n):
            yield [write_candidate(index)]
            await asyncio.sleep(0)  # what has been offered may leave


class Held(Together):
    """A language model that lets each of its callers wait, as jobs wait for a busy GPU."""

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        await asyncio.sleep(HELD_SECONDS)
        yield [write_candidate(index) for index in range(n)]


class Judge(NoOpEngine):
    """A reward model."""

    info = replace(INFO, likelihoods=())

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(candidate.index, REWARD) for candidate in batch]


def write_candidate(index: int) -> Candidate:
    return Candidate(index, tuple(range(100, 100 + STEP_TOKENS)), TEXT, LOG_LIKELIHOOD, FinishReason.DELIMITER)
