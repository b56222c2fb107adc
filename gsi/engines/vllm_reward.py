"""A reward model on vLLM, at the cost of a candidate's own tokens: the last position only, over the prefix cache."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from transformers import PretrainedConfig
from vllm import PoolingParams
from vllm.config import PoolerConfig

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, ModelInfo, check_length
from gsi.engines.concurrency import as_finished, once_each
from gsi.engines.reward_families import OutcomeReward, QwenProcessReward, RewardFamily, SkyworkProcessReward
from gsi.engines.tokenizer_engine import Tokenizer
from gsi.engines.vllm_core_engine import VllmCore
from gsi.engines.vllm_engine import vllm_model_info
from gsi.errors import InternalError

log = structlog.get_logger()

FIXED = {"runner": "pooling", "enable_prefix_caching": True}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a checkpoint is run: vLLM's arguments, its pooling task, and how it reads a trajectory."""

    family: RewardFamily
    task: str = "classify"  # one row of outputs, of the last token
    arguments: dict[str, Any] = field(default_factory=dict)


def plan(architecture: str, tokenizer: Tokenizer, model: str) -> Plan:
    """Return how to run a checkpoint of this architecture (the first in its config.json)."""
    if architecture == "Qwen2ForProcessRewardModel":
        return Plan(QwenProcessReward(tokenizer, model), arguments=_class("GsiQwen2LastStepReward"))
    if architecture == "Qwen2ForPrmModel":
        return Plan(SkyworkProcessReward(tokenizer), arguments=_class("GsiSkyworkLastStepReward"))
    if architecture.endswith("ForSequenceClassification"):
        return Plan(OutcomeReward(tokenizer))
    # vLLM's own class, if it has one: outputs at every token that is not in the cache, of which we take the last.
    log.warning("not a known family of reward models: read as an outcome model", architecture=architecture)
    return Plan(OutcomeReward(tokenizer), "token_classify", {"pooler_config": PoolerConfig(pooling_type="ALL")})


def _class(name: str) -> dict[str, Any]:
    """Name a class of ours (``inside_vllm/plugin.py``) in place of the checkpoint's."""
    return {"hf_overrides": {"architectures": [name]}}


class VllmRewardEngine:
    """Rates candidates as the next step."""

    def __init__(self, core: VllmCore, info: ModelInfo, chosen: Plan) -> None:
        self.info = info
        self.core = core
        self._family = chosen.family
        self._params = PoolingParams(task=chosen.task, use_activation=False, skip_reading_prefix_cache=False)

    @classmethod
    async def load(cls, settings: EngineSettings) -> "VllmRewardEngine":
        """Start the engine for whichever family of reward models the checkpoint is of."""
        tokenizer = await asyncio.to_thread(Tokenizer, settings.model, settings.revision)
        config, _ = PretrainedConfig.get_config_dict(settings.model, revision=settings.revision)
        chosen = plan(next(iter(config.get("architectures") or ["none"])), tokenizer, settings.model)
        core = await VllmCore.start(settings, {**FIXED, **chosen.arguments})
        return cls(core, vllm_model_info(settings, core, tokenizer), chosen)

    async def died(self) -> str:
        return await self.core.died()

    def close(self) -> None:
        self.core.close()

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        self.core.admit()
        reward = once_each(partial(self._reward, self._family.prefix(messages, steps)))  # of several that are equal

        async def score(candidate: StepText) -> Score:
            return Score(candidate.index, await reward(candidate.text))

        async for batch in as_finished(candidates, score):
            yield batch

    async def _reward(self, prefix: Sequence[int], text: str) -> float:
        token_ids = [*prefix, *self._family.candidate(text)]
        check_length(len(token_ids), self.info.max_length)
        output = await self.core.encode(token_ids, self._params)
        outputs = output.outputs.data.double().reshape(-1, output.outputs.data.shape[-1])[-1].tolist()
        reward = self._family.reward(outputs)
        if not 0 <= reward <= 1:
            raise InternalError(f"the reward model gave {outputs}")
        return reward
