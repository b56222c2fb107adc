"""A draft or target model on vLLM: a proposal of n candidates is n requests; scoring is ``suffix_scoring.py``."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import structlog
from transformers import AutoModelForCausalLM
from vllm import SamplingParams as VllmSamplingParams

from gsi.algorithm.candidates import Candidate, Message
from gsi.algorithm.judging import Question
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, ScoreBatches, TokenBatches
from gsi.algorithm.seeds import derive_seed
from gsi.engines.base import SAME_AS_MODEL, EngineSettings, check_candidates, check_likelihood, check_prefix
from gsi.engines.concurrency import stream_results
from gsi.engines.hugging_face.judging import QuestionWriter
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_vllm.core import PROPOSAL_PRIORITY, VllmCore
from gsi.engines.on_vllm.follower import VllmFollower
from gsi.engines.on_vllm.model_description import describe_model
from gsi.engines.on_vllm.one_law import hide_padding, temper
from gsi.engines.on_vllm.proposals import make_sampling_params, read_candidate
from gsi.engines.on_vllm.suffix_scoring import SuffixScorer
from gsi.engines.sampling_law import check_one_law
from gsi.model_info import ModelInfo

log = structlog.get_logger()

MAX_FIRST_TOKENS = 1024  # as many candidates as a proposal may have
LANGUAGE_MODEL_ARGS = {  # engine arguments that an operator cannot change
    "runner": "generate",
    "logprobs_mode": "raw_logprobs",
    "enable_prefix_caching": True,
    "max_logprobs": MAX_FIRST_TOKENS,
    "worker_extension_cls": "gsi.engines.on_vllm.inside.tempering.Tempering",
}


class VllmEngine:
    """Samples candidates and scores given candidates.

    With likelihood "sampling" the engine has one temperature above 0; greedy decoding is always possible.
    """

    def __init__(self, core: VllmCore, tokenizer: Tokenizer, info: ModelInfo, scorer: SuffixScorer) -> None:
        self.info = info
        self.core = core
        self.scorer = scorer
        self._tokenizer = tokenizer
        self._num_ids = min(core.vocabulary_size, tokenizer.num_ids)
        self._questions = QuestionWriter(tokenizer, info.max_length, self._num_ids, info.eos_token_ids)

    @classmethod
    async def load(cls, settings: EngineSettings) -> "VllmEngine":
        """Start the engine, fix its temperature, and find out by which path it can score."""
        tokenizer = await asyncio.to_thread(Tokenizer.load, settings)
        core = await VllmCore.start(settings, make_language_model_args(settings))
        try:
            await core.ask_workers("mend_sampling")
            if settings.likelihood is Likelihood.SAMPLING:
                await temper(core, settings.temperature)
            await hide_padding(core, tokenizer.num_ids)
            info = await asyncio.to_thread(describe_model, settings, core, tokenizer, make_language_model)
            scorer = SuffixScorer(core, info)
            await scorer.choose_path()
        except BaseException:
            core.close()
            raise
        log.info("scoring", path=scorer.path.value)
        return cls(core, tokenizer, info, scorer)

    @classmethod
    async def follow(cls, settings: EngineSettings) -> VllmFollower:
        """Start another node than node 0 of an engine over several nodes."""
        return await VllmFollower.start(settings, make_language_model_args(settings))

    async def wait_until_dead(self) -> str:
        return await self.core.wait_until_dead()

    def close(self) -> None:
        self.core.close()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self._tokenizer.render(messages)

    def show(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.show(token_ids)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        check_prefix(prefix, self.info.max_length, self._num_ids)
        check_one_law(self.info, sampling)
        self.core.admit()
        params = make_sampling_params(self.info, sampling, max_tokens=self.info.max_length - len(prefix))
        sample = partial(self._sample, prefix, params, seed)
        async with aclosing(stream_results(_yield_once(range(n)), sample)) as batches:
            async for batch in batches:
                yield batch

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        check_likelihood(sampling)
        check_prefix(prefix, self.info.max_length, self._num_ids)
        check_one_law(self.info, sampling)
        self.core.admit()
        limits = (len(prefix), self.info.max_length, self._num_ids)
        checked = check_candidates(candidates, *limits)
        async with aclosing(self.scorer.score(prefix, checked)) as batches:
            async for batch in batches:
                yield batch

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        asked = await self._questions.ask(prefix, question)
        self.core.admit()
        values = await self.scorer.score_tokens(asked.token_ids, asked.label_ids)
        return asked.read(values, self.info.temperature or 1.0)

    async def _sample(self, prefix: Sequence[int], params: VllmSamplingParams, seed: int, index: int) -> Candidate:
        """Sample candidate ``index`` with its own random numbers."""
        own = params.clone()
        own.seed = derive_seed(seed, index)
        output = await self.core.generate(prefix, own, PROPOSAL_PRIORITY)
        return read_candidate(self.info, self._tokenizer.decode, prefix, index, output.outputs[0], params)


def make_language_model_args(settings: EngineSettings) -> dict[str, Any]:
    """Return the engine arguments that an operator cannot change, with the number format of the last layer."""
    if settings.head_dtype == SAME_AS_MODEL:
        return LANGUAGE_MODEL_ARGS
    return {**LANGUAGE_MODEL_ARGS, "hf_overrides": {"head_dtype": settings.head_dtype}}


def make_language_model(config: Any) -> Any:
    """Make an untrained model from a Hugging Face configuration. Code from the checkpoint is not run."""
    return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


async def _yield_once(items: Sequence[int]) -> AsyncGenerator[Sequence[int], None]:
    yield items
