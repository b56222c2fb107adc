"""A reward model on vLLM. A reward costs the candidate's own tokens: the prefix comes from vLLM's prefix cache."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog
from vllm import PoolingParams
from vllm.config import PoolerConfig

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, Reading, check_length
from gsi.engines.hugging_face.reward_families import (
    QWEN_PROCESS_REWARD,
    SKYWORK_PROCESS_REWARD,
    OutcomeReward,
    RewardFamily,
    find_family,
    read_architecture,
    read_reward,
)
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.reward_checkpoint import make_reward_model
from gsi.engines.on_vllm.concurrency import memoize, stream_results
from gsi.engines.on_vllm.core import VllmCore
from gsi.engines.on_vllm.follower import VllmFollower
from gsi.engines.on_vllm.model_description import describe_model
from gsi.engines.text_threads import TextThreads, count_characters
from gsi.model_info import ModelInfo

log = structlog.get_logger()

REWARD_MODEL_ARGS = {"runner": "pooling", "enable_prefix_caching": True}  # an operator cannot change them

CLASSES = {  # the classes of ``inside/plugin.py`` that stand in for the checkpoint's architecture
    QWEN_PROCESS_REWARD: "GsiQwen2LastStepReward",
    SKYWORK_PROCESS_REWARD: "GsiSkyworkLastStepReward",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How vLLM runs a checkpoint: the family that reads a trajectory, the pooling task, the engine arguments."""

    family: RewardFamily
    task: str = "classify"  # one row of outputs, of the last token
    arguments: dict[str, Any] = field(default_factory=dict)


def make_plan(
    architecture: str, num_labels: int, tokenizer: Tokenizer, model: str, reading: Reading = Reading.MODEL_CARD
) -> Plan:
    """Return how to run a checkpoint of this architecture, with this number of labels."""
    family = find_family(architecture, num_labels, tokenizer, model, reading)
    if family is not None:
        ours = CLASSES.get(architecture)
        return Plan(family, arguments={"hf_overrides": {"architectures": [ours]}} if ours else {})
    # vLLM may have a class of its own. It gives outputs at every token outside the cache; the last one has the reward.
    log.warning("not a known family of reward models: read as an outcome model", architecture=architecture)
    unbounded = OutcomeReward(tokenizer, is_bounded=False)  # the number of outputs is unknown
    return Plan(unbounded, "token_classify", {"pooler_config": PoolerConfig(pooling_type="ALL")})


def read_checkpoint(settings: EngineSettings) -> tuple[Tokenizer, str, Plan]:
    """Return the tokenizer of a checkpoint, its architecture, and how to run it."""
    tokenizer = Tokenizer.load(settings)
    architecture, num_labels = read_architecture(settings)
    return tokenizer, architecture, make_plan(architecture, num_labels, tokenizer, settings.model, settings.reading)


class VllmRewardEngine:
    """Rates candidates as the next step."""

    def __init__(self, core: VllmCore, info: ModelInfo, plan: Plan) -> None:
        self.info = info
        self.core = core
        self._family = plan.family
        self._texts = TextThreads()
        self._params = PoolingParams(task=plan.task, use_activation=False, skip_reading_prefix_cache=False)

    @classmethod
    async def load(cls, settings: EngineSettings) -> "VllmRewardEngine":
        """Start the engine for the family of reward models that the checkpoint belongs to."""
        tokenizer, architecture, plan = await asyncio.to_thread(read_checkpoint, settings)
        core = await VllmCore.start(settings, {**REWARD_MODEL_ARGS, **plan.arguments})
        make = partial(make_reward_model, architecture)
        info = await asyncio.to_thread(describe_model, settings, core, tokenizer, make)
        family = plan.family
        return cls(core, replace(info, has_bounded_rewards=family.is_bounded, reading=family.reading), plan)

    @classmethod
    async def follow(cls, settings: EngineSettings) -> VllmFollower:
        """Start another node than node 0 of an engine over several nodes."""
        _, _, plan = await asyncio.to_thread(read_checkpoint, settings)
        return await VllmFollower.start(settings, {**REWARD_MODEL_ARGS, **plan.arguments})

    async def wait_until_dead(self) -> str:
        return await self.core.wait_until_dead()

    def close(self) -> None:
        self._texts.close()
        self.core.close()

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        self.core.admit()
        num_characters = count_characters(messages, steps)
        prefix = await self._texts.run(num_characters, self._family.prefix, messages, steps)
        reward = memoize(partial(self._rate, prefix))  # a small draft repeats itself

        async def score(candidate: StepText) -> Score:
            return Score(candidate.index, await reward(candidate.text))

        async with aclosing(stream_results(candidates, score)) as batches:
            async for batch in batches:
                yield batch

    async def _rate(self, prefix: Sequence[int], text: str) -> float:
        token_ids = [*prefix, *await self._texts.run(len(text), self._family.candidate, text)]
        check_length(len(token_ids), self.info.max_length, len(prefix))
        output = await self.core.encode(token_ids, self._params)
        outputs = output.outputs.data.double().reshape(-1, output.outputs.data.shape[-1])[-1].tolist()
        return read_reward(self._family, outputs)
