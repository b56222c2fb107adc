"""A process reward model (PRM) on Hugging Face transformers, read as Qwen2.5-Math-PRM is."""

import asyncio
from collections.abc import Sequence

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, check_length, never
from gsi.engines.prefix_engine import Prefix, PrefixModel, load_checkpoint
from gsi.engines.qwen2_process_reward import Qwen2ForProcessRewardModel
from gsi.engines.reward_families import QwenProcessReward
from gsi.engines.tokenizer_engine import Tokenizer
from gsi.engines.transformers_engine import model_info, refuse_engine_args


class TransformersRewardEngine:
    """Rates candidates as the next step; only the last step's reward is computed."""

    def __init__(self, settings: EngineSettings) -> None:
        refuse_engine_args(settings)
        self._tokenizer = Tokenizer(settings.model, settings.revision)
        self._family = QwenProcessReward(self._tokenizer, settings.model)
        model = load_checkpoint(Qwen2ForProcessRewardModel, settings)
        self.info = model_info(settings, model, self._tokenizer, likelihoods=())
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
        """Return P(good step) in [0, 1] at each candidate's own step mark, from one forward pass."""
        rows = [self._family.candidate(candidate.text) for candidate in candidates]
        check_length(prefix.length + max(map(len, rows)), self._model.max_length)
        logits = self._model.continue_rows(prefix.cache(len(rows)), rows)
        at_marks = logits[range(len(rows)), [len(row) - 1 for row in rows]].double()
        return [self._family.reward(outputs) for outputs in at_marks.tolist()]
