"""A reward model on vLLM, at the cost of a candidate's own tokens: the last position only, over the prefix cache."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog
from vllm import PoolingParams
from vllm.config import PoolerConfig

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, check_length
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.reward_checkpoint import architecture_of, make_reward_model
from gsi.engines.on_vllm.concurrency import as_finished, once_each
from gsi.engines.on_vllm.core import VllmCore
from gsi.engines.on_vllm.follower import VllmFollower
from gsi.engines.on_vllm.language import vllm_model_info
from gsi.engines.reward_families import (
    QWEN_PROCESS_REWARD,
    SKYWORK_PROCESS_REWARD,
    OutcomeReward,
    RewardFamily,
    family_of,
    sound_reward,
)
from gsi.model_info import ModelInfo

log = structlog.get_logger()

FIXED = {"runner": "pooling", "enable_prefix_caching": True}

CLASSES = {  # of ours (``inside/plugin.py``), in place of the checkpoint's
    QWEN_PROCESS_REWARD: "GsiQwen2LastStepReward",
    SKYWORK_PROCESS_REWARD: "GsiSkyworkLastStepReward",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a checkpoint is run: vLLM's arguments, its pooling task, and how it reads a trajectory."""

    family: RewardFamily
    task: str = "classify"  # one row of outputs, of the last token
    arguments: dict[str, Any] = field(default_factory=dict)


def plan(architecture: str, num_labels: int, tokenizer: Tokenizer, model: str) -> Plan:
    """Return how to run a checkpoint of this architecture with this many labels."""
    family = family_of(architecture, num_labels, tokenizer, model)
    if family is not None:
        ours = CLASSES.get(architecture)
        return Plan(family, arguments={"hf_overrides": {"architectures": [ours]}} if ours else {})
    # vLLM's own class, if it has one: outputs at every token that is not in the cache, of which we take the last.
    log.warning("not a known family of reward models: read as an outcome model", architecture=architecture)
    unbounded = OutcomeReward(tokenizer, is_bounded=False)  # nobody knows how many outputs it has
    return Plan(unbounded, "token_classify", {"pooler_config": PoolerConfig(pooling_type="ALL")})


def _planned(settings: EngineSettings) -> tuple[Tokenizer, str, Plan]:
    """Return the checkpoint's tokenizer, its architecture, and how to run it."""
    tokenizer = Tokenizer(settings.model, settings.revision)
    architecture, num_labels = architecture_of(settings)
    return tokenizer, architecture, plan(architecture, num_labels, tokenizer, settings.model)


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
        tokenizer, architecture, chosen = await asyncio.to_thread(_planned, settings)
        core = await VllmCore.start(settings, {**FIXED, **chosen.arguments})
        make = partial(make_reward_model, architecture)
        info = await asyncio.to_thread(vllm_model_info, settings, core, tokenizer, make)
        return cls(core, replace(info, has_bounded_rewards=chosen.family.is_bounded), chosen)

    @classmethod
    async def follow(cls, settings: EngineSettings) -> VllmFollower:
        """Start another node of such an engine than the one that serves."""
        _, _, chosen = await asyncio.to_thread(_planned, settings)
        return await VllmFollower.start(settings, {**FIXED, **chosen.arguments})

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
        return sound_reward(self._family, outputs)
