"""A process reward model (PRM) on Hugging Face transformers, read as Qwen2.5-Math-PRM is."""

from collections.abc import Sequence

import torch

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings
from gsi.engines.prefix_engine import Prefix, PrefixModel, load_checkpoint
from gsi.engines.qwen2_process_reward import Qwen2ForProcessRewardModel
from gsi.engines.tokenizer_engine import Tokenizer
from gsi.engines.transformers_engine import model_info
from gsi.errors import InvalidRequestError, MisconfiguredError

STEP_MARK = "<extra_0>"  # Qwen2.5-Math-PRM's: stands behind each step, in place of the delimiter


class TransformersRewardEngine:
    """Rates candidates as the next step; only the last step's reward is computed."""

    def __init__(self, settings: EngineSettings) -> None:
        self._tokenizer = Tokenizer(settings.model, settings.revision)
        mark = self._tokenizer.token_id(STEP_MARK)
        if mark is None:
            raise MisconfiguredError(f"{settings.model} has no token {STEP_MARK}: not a PRM that this engine can read")
        self._mark = mark
        model = load_checkpoint(Qwen2ForProcessRewardModel, settings)
        self.info = model_info(settings, model, self._tokenizer, likelihoods=())
        self._model = PrefixModel(model, self.info.max_length, settings.device, settings.num_threads)

    def close(self) -> None:
        self._model.close()

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        read = await self._model.run(self._read, messages, steps)
        async for batch in candidates:
            rewards = await self._model.run(self._rewards, read, batch)
            yield [Score(candidate.index, reward) for candidate, reward in zip(batch, rewards, strict=True)]

    def _read(self, messages: Sequence[Message], steps: Sequence[str]) -> Prefix:
        token_ids = list(self._tokenizer.render(messages))
        for step in steps:
            token_ids += self._marked(step)
        return self._model.read(token_ids)

    def _marked(self, step: str) -> list[int]:
        return [*self._tokenizer.encode(step.rstrip("\n")), self._mark]

    def _rewards(self, prefix: Prefix, candidates: Sequence[StepText]) -> list[float]:
        """Return P(good step) in [0, 1] at each candidate's own step mark, from one forward pass."""
        rows = [self._marked(candidate.text) for candidate in candidates]
        longest = max(map(len, rows))
        if prefix.length + longest > self._model.max_length:
            raise InvalidRequestError(
                f"prompt, steps and candidate have {prefix.length + longest} tokens for the PRM; "
                f"allowed: at most {self._model.max_length}, its context"
            )
        logits = self._model.continue_rows(prefix.cache(len(rows)), rows)
        at_marks = logits[range(len(rows)), [len(row) - 1 for row in rows]]
        rewards: list[float] = torch.softmax(at_marks.double(), dim=-1)[:, 1].tolist()
        return rewards
