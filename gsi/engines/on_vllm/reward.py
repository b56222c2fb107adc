"""A reward model on vLLM. A reward costs the candidate's own tokens: the prefix comes from vLLM's prefix cache."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog
from vllm import ModelRegistry, PoolingParams
from vllm import SamplingParams as VllmSamplingParams
from vllm.config import PoolerConfig
from vllm.sampling_params import RequestOutputKind

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, check_length
from gsi.engines.concurrency import memoize, stream_results
from gsi.engines.hugging_face.reward_families import (
    BY_NAME,
    FAMILIES,
    LANGUAGE_MODEL,
    QWEN_PROCESS_REWARD,
    SKYWORK_PROCESS_REWARD,
    RewardFamily,
    find_family,
    read_architecture,
    read_reward,
)
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.reward_checkpoint import make_reward_model
from gsi.engines.on_vllm.core import SCORING_PRIORITY, VllmCore
from gsi.engines.on_vllm.follower import VllmFollower
from gsi.engines.on_vllm.model_description import describe_model
from gsi.engines.reward_profile import load_profile
from gsi.engines.text_threads import TextThreads, count_characters
from gsi.errors import MisconfiguredError, release
from gsi.model_info import ModelInfo

log = structlog.get_logger()

# Engine arguments that an operator cannot change.
POOLING_ARGS = {"runner": "pooling", "enable_prefix_caching": True}
LANGUAGE_ARGS = {"runner": "generate", "enable_prefix_caching": True, "logprobs_mode": "raw_logprobs"}

CLASSES = {  # the classes of ``inside/plugin.py`` that stand in for the checkpoint's architecture
    QWEN_PROCESS_REWARD: "GsiQwen2LastStepReward",
    SKYWORK_PROCESS_REWARD: "GsiSkyworkLastStepReward",
}
TOKEN_CLASSIFIER, SEQUENCE_CLASSIFIER = "ForTokenClassification", "ForSequenceClassification"
UNKNOWN_ARCHITECTURE = "outcome"  # the profile of a model that vLLM may have a class for

PROBE = (Message("user", "What is 1 + 1?"),)
PROBE_CANDIDATE = "1 + 1 = 2\n\n"
PROBE_SECONDS = 300.0  # a first request may compile kernels


@dataclass(frozen=True, slots=True)
class Plan:
    """How vLLM runs a checkpoint: the family that reads a trajectory, the pooling task, the engine arguments.

    Without a task the checkpoint is a language model, and the outputs are the log-probabilities of a few tokens.
    ``num_outputs``: what the task gives; None: not known before the model runs.
    """

    family: RewardFamily
    task: str | None = "classify"  # one row of outputs, of the last token
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """The arguments of the engine that the operator cannot change."""
        return {**(LANGUAGE_ARGS if self.task is None else POOLING_ARGS), **self.arguments}


def make_plan(settings: EngineSettings, architecture: str, num_labels: int, tokenizer: Tokenizer) -> Plan:
    """Return how to run a checkpoint of this architecture, with this number of labels."""
    model = settings.model
    family = find_family(architecture, num_labels, tokenizer, model, settings.reading, settings.profile)
    if family is None and architecture.endswith(LANGUAGE_MODEL):
        raise MisconfiguredError(_refuse(model, architecture, "it has no head"))
    if family is None:
        log.warning("not a known family of reward models: read as an outcome model", architecture=architecture)
        family = RewardFamily(load_profile(UNKNOWN_ARCHITECTURE), tokenizer, model)
    if family.label_token_ids:
        return Plan(family, None, {"max_logprobs": max(20, len(family.label_token_ids))})
    if architecture in CLASSES:
        return Plan(family, arguments=_as_architecture(CLASSES[architecture]))
    if architecture.endswith(TOKEN_CLASSIFIER):  # vLLM pools the last token of sequence classifiers alone
        kind = architecture.removesuffix(TOKEN_CLASSIFIER)
        if f"{kind}{LANGUAGE_MODEL}" not in ModelRegistry.get_supported_archs():  # an encoder's pools its first token
            raise MisconfiguredError(_refuse(model, architecture, "it reads in both directions, or vLLM has no class"))
        return Plan(family, arguments=_as_architecture(f"{kind}{SEQUENCE_CLASSIFIER}"))
    if architecture.endswith(SEQUENCE_CLASSIFIER):
        return Plan(family)
    # vLLM may have a class of its own. It gives outputs at every token outside the cache; the last one has the reward.
    return Plan(family, "token_classify", {"pooler_config": PoolerConfig(pooling_type="ALL")})


def _as_architecture(name: str) -> dict[str, Any]:
    return {"hf_overrides": {"architectures": [name]}}


def read_checkpoint(settings: EngineSettings) -> tuple[Tokenizer, str, Plan]:
    """Return the tokenizer of a checkpoint, its architecture, and how to run it."""
    tokenizer = Tokenizer.load(settings)
    architecture, num_labels = read_architecture(settings)
    return tokenizer, architecture, make_plan(settings, architecture, num_labels, tokenizer)


class VllmRewardEngine:
    """Rates candidates as the next step."""

    def __init__(self, core: VllmCore, info: ModelInfo, plan: Plan) -> None:
        self.info = info
        self.core = core
        self._family = plan.family
        self._texts = TextThreads()
        self._params = make_pooling_params(plan.task) if plan.task else None
        self._label_params = make_label_params(plan.family.label_token_ids)

    @classmethod
    async def load(cls, settings: EngineSettings) -> "VllmRewardEngine":
        """Start the engine for the family of reward models that the checkpoint belongs to, and try one reward."""
        tokenizer, architecture, plan = await asyncio.to_thread(read_checkpoint, settings)
        try:
            core = await VllmCore.start(settings, plan.engine_arguments)
        except (ValueError, NotImplementedError) as error:
            raise MisconfiguredError(_refuse(settings.model, architecture, str(error))) from error
        try:
            make = partial(make_reward_model, architecture)
            described = await asyncio.to_thread(describe_model, settings, core, tokenizer, make)
            engine = cls(core, _describe_rewards(described, plan.family), plan)
            await engine.try_reward(settings.model, architecture)
        except BaseException:
            core.close()
            raise
        return engine

    @classmethod
    async def follow(cls, settings: EngineSettings) -> VllmFollower:
        """Start another node than node 0 of an engine over several nodes."""
        _, _, plan = await asyncio.to_thread(read_checkpoint, settings)
        return await VllmFollower.start(settings, plan.engine_arguments)

    async def wait_until_dead(self) -> str:
        return await self.core.wait_until_dead()

    def close(self) -> None:
        self._texts.close()
        self.core.close()

    async def try_reward(self, model: str, architecture: str) -> None:
        """Rate one candidate. Raises MisconfiguredError if vLLM cannot: otherwise each request would fail."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                prefix = await self._texts.run(0, self._family.prefix, PROBE, ())
                await self._rate(prefix, True, PROBE_CANDIDATE)
        except Exception as error:  # vLLM says in many ways that it cannot
            reason = str(error) or type(error).__name__
            release(error)  # its frames hold the engine, whose process is to end
            raise MisconfiguredError(_refuse(model, architecture, reason)) from error

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        self.core.admit()
        num_characters = count_characters(messages, steps)
        prefix = await self._texts.run(num_characters, self._family.prefix, messages, steps)
        reward = memoize(partial(self._rate, prefix, not steps))  # a small draft repeats itself

        async def score(candidate: StepText) -> Score:
            return Score(candidate.index, await reward(candidate.text))

        async with aclosing(stream_results(candidates, score)) as batches:
            async for batch in batches:
                yield batch

    async def _rate(self, prefix: Sequence[int], is_first: bool, text: str) -> float:
        read = partial(self._family.candidate, is_first=is_first)
        candidate = await self._texts.run(len(text), read, text)
        check_length(len(prefix) + len(candidate), self.info.max_length, len(prefix))
        places = self._family.places(candidate)
        ends = [[*prefix, *candidate[: place + 1]] for place in places]
        return read_reward(self._family, await asyncio.gather(*map(self._read_outputs, ends)))

    async def _read_outputs(self, token_ids: Sequence[int]) -> list[float]:
        """Return the outputs at the last of the tokens."""
        if self._params is None:
            output = await self.core.generate(token_ids, self._label_params, SCORING_PRIORITY)
            rows = output.outputs[0].logprobs
            found = dict(zip(rows.token_ids, rows.logprobs, strict=True))
            return [found[token_id] for token_id in self._family.label_token_ids]
        output = await self.core.encode(token_ids, self._params)
        outputs: list[float] = output.outputs.data.double().reshape(-1, output.outputs.data.shape[-1])[-1].tolist()
        return outputs


def make_pooling_params(task: str) -> PoolingParams:
    """Return a request for the raw outputs of a head; the prefix comes from the cache."""
    return PoolingParams(task=task, use_activation=False, skip_reading_prefix_cache=False)


def make_label_params(token_ids: Sequence[int]) -> VllmSamplingParams:
    """Return a request for the log-probabilities of these tokens behind a prompt. vLLM must write a token."""
    return VllmSamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprobs=len(token_ids),
        logprob_token_ids=list(token_ids) or None,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _describe_rewards(info: ModelInfo, family: RewardFamily) -> ModelInfo:
    """Return the description of a model as that of a reward model: a language model reports no likelihoods here."""
    return replace(
        info,
        has_bounded_rewards=family.is_bounded,
        reading=family.reading,
        profile=family.profile.name,
        likelihoods=(),
        temperature=None,
        num_speculative_tokens=0,
    )


def _refuse(model: str, architecture: str, reason: str) -> str:
    return (
        f"{model} is a {architecture}, and vLLM gives no reward for it ({' '.join(reason.split())}); "
        f"reward models that work: {FAMILIES}; language models by GSI_PRM_PROFILE: {BY_NAME}, or your own"
    )
