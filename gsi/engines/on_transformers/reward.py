"""A reward model on Hugging Face transformers, of whichever family its checkpoint is (``reward_families.py``)."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, check_length, never
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.language import model_info, refuse_engine_args
from gsi.engines.on_transformers.prefix import Prefix, PrefixModel
from gsi.engines.on_transformers.reward_checkpoint import architecture_of, load_reward_model
from gsi.engines.reward_families import FAMILIES, RewardFamily, family_of, sound_reward
from gsi.errors import MisconfiguredError


class TransformersRewardEngine:
    """Rates candidates as the next step; only the last step's reward is computed."""

    def __init__(self, settings: EngineSettings) -> None:
        refuse_engine_args(settings)
        tokenizer = Tokenizer(settings.model, settings.revision)
        architecture, num_labels = architecture_of(settings)
        self._family = known_family(architecture, num_labels, tokenizer, settings.model)
        model = load_reward_model(architecture, settings)
        described = model_info(settings, model, tokenizer, likelihoods=())
        self.info = replace(described, has_bounded_rewards=self._family.is_bounded)
        self._model = PrefixModel(model, self.info.max_length, settings.device, settings.num_threads)

    @classmethod
    async def load(cls, settings: EngineSettings) -> "TransformersRewardEngine":
        return await asyncio.to_thread(cls, settings)

    async def died(self) -> str:
        return await never()

    def close(self) -> None:
        self._model.close()

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        read = await self._model.run(self._read, messages, steps)
        async for batch in candidates:
            rewards = await self._model.run(self._rewards, read, batch)
            yield [Score(candidate.index, reward) for candidate, reward in zip(batch, rewards, strict=True)]

    def _read(self, messages: Sequence[Message], steps: Sequence[str]) -> Prefix:
        return self._model.read(self._family.prefix(messages, steps))

    def _rewards(self, prefix: Prefix, candidates: Sequence[StepText]) -> list[float]:
        """Return the reward at each candidate's own last token, from one forward pass."""
        rows = [self._family.candidate(candidate.text) for candidate in candidates]
        check_length(prefix.length + max(map(len, rows)), self._model.max_length)
        outputs = self._model.continue_rows(prefix.cache(len(rows)), rows)
        at_last = outputs[range(len(rows)), [len(row) - 1 for row in rows]].double()
        return [sound_reward(self._family, row) for row in at_last.tolist()]


def known_family(architecture: str, num_labels: int, tokenizer: Tokenizer, model: str) -> RewardFamily:
    """Return how a checkpoint is read. Raises MisconfiguredError that lists what can be read."""
    family = family_of(architecture, num_labels, tokenizer, model)
    if family is None:
        raise MisconfiguredError(f"{model} is a {architecture}; reward models that can be read: {FAMILIES}")
    return family
