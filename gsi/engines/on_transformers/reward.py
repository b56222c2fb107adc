"""A reward model on Hugging Face transformers, read as its profile says (``hugging_face/reward_families.py``)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, check_length, wait_forever
from gsi.engines.hugging_face.reward_families import (
    BY_NAME,
    FAMILIES,
    RewardFamily,
    find_family,
    read_architecture,
    read_reward,
)
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.language import describe_checkpoint, refuse_engine_args
from gsi.engines.on_transformers.model_thread import Work
from gsi.engines.on_transformers.passes import Head, as_they_are
from gsi.engines.on_transformers.prefix import Prefix, Tensor, TokenIds
from gsi.engines.on_transformers.prefix_model import PrefixModel
from gsi.engines.on_transformers.reward_checkpoint import load_reward_model
from gsi.engines.text_threads import TextThreads, count_characters
from gsi.errors import MisconfiguredError
from gsi.model_info import ModelInfo


class TransformersRewardEngine:
    """Rates candidates as the next step. It computes no rewards of earlier steps."""

    def __init__(self, info: ModelInfo, family: RewardFamily, model: PrefixModel, head: Head = as_they_are) -> None:
        self.info = info
        self._family = family
        self._model = model
        self._head = head
        self._texts = TextThreads()

    @classmethod
    async def load(cls, settings: EngineSettings) -> "TransformersRewardEngine":
        return await asyncio.to_thread(cls._load, settings)

    @classmethod
    def _load(cls, settings: EngineSettings) -> "TransformersRewardEngine":
        checkpoint = load_described(settings)
        return cls(
            checkpoint.info, checkpoint.family, PrefixModel(checkpoint.model, checkpoint.info.max_length, settings)
        )

    async def wait_until_dead(self) -> str:
        return await wait_forever()

    def close(self) -> None:
        self._texts.close()
        self._model.close()

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        num_characters = count_characters(messages, steps)
        prefix = await self._texts.run(num_characters, self._family.prefix, messages, steps)
        check_length(len(prefix) + 1, self._model.max_length, len(prefix))
        read = await self._model.read_prefix(prefix)
        async for batch in candidates:
            num_characters = sum(len(candidate.text) for candidate in batch)
            rows = await self._texts.run(num_characters, self._read_texts, batch, not steps)
            for together in self._model.split(list(zip(batch, rows, strict=True))):
                rewards = await self._rate_together(read, [row for _, row in together])
                yield [Score(candidate.index, reward) for (candidate, _), reward in zip(together, rewards, strict=True)]

    def _read_texts(self, candidates: Sequence[StepText], is_first: bool) -> list[TokenIds]:
        return [tuple(self._family.candidate(candidate.text, is_first=is_first)) for candidate in candidates]

    async def _rate_together(self, prefix: Prefix, candidates: Sequence[TokenIds]) -> list[float]:
        """Return the reward of each candidate."""
        check_length(prefix.length + max(map(len, candidates)), self._model.max_length, prefix.length)
        return await self._model.run(self._rate(prefix, candidates))

    def _rate(self, prefix: Prefix, candidates: Sequence[TokenIds]) -> Work[list[float]]:
        """Return the reward of each candidate, from one pass over those that differ."""
        rows = list(dict.fromkeys(candidates))
        outputs = yield from self._model.continue_rows(prefix.cache(len(rows)), rows)
        rewards = {row: self._read_row(row, of_row) for row, of_row in zip(rows, outputs, strict=True)}
        return [rewards[candidate] for candidate in candidates]

    def _read_row(self, row: TokenIds, outputs: Tensor) -> float:
        """Return the reward that the outputs [tokens, outputs] of a candidate have at its marks."""
        at_marks = self._head(outputs[self._family.places(row)])
        return read_reward(self._family, at_marks.double().tolist())


@dataclass(frozen=True, slots=True)
class RewardCheckpoint:
    """A loaded reward model, and how it is read."""

    info: ModelInfo
    family: RewardFamily
    model: Any  # outputs [batch, length, outputs], at every token


def load_described(settings: EngineSettings) -> RewardCheckpoint:
    """Load a reward model. Raises MisconfiguredError if no profile says how it is read, or if it cannot be used."""
    refuse_engine_args(settings)
    tokenizer = Tokenizer.load(settings)
    architecture, num_labels = read_architecture(settings)
    family = find_family(architecture, num_labels, tokenizer, settings.model, settings.reading, settings.profile)
    if family is None:
        raise MisconfiguredError(
            f"{settings.model} is a {architecture}; reward models that can be read: {FAMILIES}; "
            f"language models by GSI_PRM_PROFILE: {BY_NAME}, or your own"
        )
    model = load_reward_model(architecture, settings, family.label_token_ids)
    info = replace(
        describe_checkpoint(settings, model, tokenizer, likelihoods=()),
        has_bounded_rewards=family.is_bounded,
        reading=family.reading,
        profile=family.profile.name,
    )
    return RewardCheckpoint(info, family, model)
