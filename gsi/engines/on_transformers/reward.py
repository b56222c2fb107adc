"""A reward model on Hugging Face transformers, read as its profile says (``hugging_face/reward_families.py``)."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, check_length, wait_forever
from gsi.engines.hugging_face.reward_families import (
    BY_NAME,
    FAMILIES,
    find_family,
    read_architecture,
    read_reward,
)
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.language import describe_checkpoint, refuse_engine_args
from gsi.engines.on_transformers.model_thread import Work
from gsi.engines.on_transformers.prefix import Prefix, TokenIds
from gsi.engines.on_transformers.prefix_model import PrefixModel
from gsi.engines.on_transformers.reward_checkpoint import load_reward_model
from gsi.engines.text_threads import TextThreads, count_characters
from gsi.errors import MisconfiguredError


class TransformersRewardEngine:
    """Rates candidates as the next step. It computes no rewards of earlier steps."""

    def __init__(self, settings: EngineSettings) -> None:
        refuse_engine_args(settings)
        tokenizer = Tokenizer.load(settings)
        architecture, num_labels = read_architecture(settings)
        family = find_family(architecture, num_labels, tokenizer, settings.model, settings.reading, settings.profile)
        if family is None:
            raise MisconfiguredError(
                f"{settings.model} is a {architecture}; reward models that can be read: {FAMILIES}; "
                f"language models by GSI_PRM_PROFILE: {BY_NAME}, or your own"
            )
        self._family = family
        self._texts = TextThreads()
        model = load_reward_model(architecture, settings, family.label_token_ids)
        described = describe_checkpoint(settings, model, tokenizer, likelihoods=())
        self.info = replace(
            described,
            has_bounded_rewards=family.is_bounded,
            reading=family.reading,
            profile=family.profile.name,
        )
        self._model = PrefixModel(model, self.info.max_length, settings)

    @classmethod
    async def load(cls, settings: EngineSettings) -> "TransformersRewardEngine":
        return await asyncio.to_thread(cls, settings)

    async def wait_until_dead(self) -> str:
        return await wait_forever()

    def close(self) -> None:
        self._texts.close()
        self._model.close()

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        num_characters = count_characters(messages, steps)
        prefix = await self._texts.run(num_characters, self._family.prefix, messages, steps)
        check_length(len(prefix) + 1, self._model.max_length, len(prefix))
        read = await self._model.run(self._model.read(prefix))
        async for batch in candidates:
            num_characters = sum(len(candidate.text) for candidate in batch)
            rows = await self._texts.run(num_characters, self._read_texts, batch, not steps)
            for together in self._model.split(list(zip(batch, rows, strict=True))):
                rewards = await self._model.run(self._rate(read, [row for _, row in together]))
                yield [Score(candidate.index, reward) for (candidate, _), reward in zip(together, rewards, strict=True)]

    def _read_texts(self, candidates: Sequence[StepText], is_first: bool) -> list[TokenIds]:
        return [tuple(self._family.candidate(candidate.text, is_first=is_first)) for candidate in candidates]

    def _rate(self, prefix: Prefix, candidates: Sequence[TokenIds]) -> Work[list[float]]:
        """Return the reward of each candidate, read at its marks, from one pass over those that differ."""
        check_length(prefix.length + max(map(len, candidates)), self._model.max_length, prefix.length)
        rows = list(dict.fromkeys(candidates))
        outputs = yield from self._model.continue_rows(prefix.cache(len(rows)), rows)
        rewards = {
            row: read_reward(self._family, of_row[self._family.places(row)].double().tolist())
            for row, of_row in zip(rows, outputs, strict=True)
        }
        return [rewards[candidate] for candidate in candidates]
