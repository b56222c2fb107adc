"""A draft or target model on vLLM: n requests a proposal, and scoring at the cost of a candidate's own tokens.

Why scoring needs care, and what was tried: ``docs/decisions/0007-suffix-scoring-in-vllm.md``.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from transformers import AutoModelForCausalLM
from vllm import SamplingParams as VllmSamplingParams
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Score
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import CandidateBatches, ScoreBatches, TokenBatches, TokenSequence
from gsi.algorithm.seeds import derive_seed
from gsi.engines.base import STEP_DELIMITER, EngineSettings, check_likelihood, check_prefix, check_vocabulary
from gsi.engines.hugging_face.parameter_count import num_parameters_if_made
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_vllm.concurrency import as_finished, once_each, together
from gsi.engines.on_vllm.core import PROPOSAL_PRIORITY, SCORING_PRIORITY, VllmCore
from gsi.engines.on_vllm.follower import VllmFollower
from gsi.engines.on_vllm.inside.scheduler import SUFFIX_TOKENS
from gsi.engines.on_vllm.metrics import SCORES_RECOMPUTED
from gsi.engines.step_end import ending
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError
from gsi.model_info import ModelInfo

log = structlog.get_logger()

MAX_FIRST_TOKENS = 1024  # as many candidates as a proposal may have
FIXED = {  # engine arguments
    "runner": "generate",
    "logprobs_mode": "raw_logprobs",
    "enable_prefix_caching": True,
    "max_logprobs": MAX_FIRST_TOKENS,
    "worker_extension_cls": "gsi.engines.on_vllm.inside.tempering.Tempering",
}
ROUNDING = 1e-3  # nats above 0 that rounding may add to the log-probability of a certain token
UNSOUND = "vLLM gave log-probabilities that are positive, not numbers, or of other tokens"
PROBE_TOLERANCE = 0.01  # of the likelihood: garbage is off by a factor, half precision by a tenth of this
TEMPERATURE_TOLERANCE = 1e-6


FirstToken = Callable[[int], Coroutine[Any, Any, float | None]]


class ScoringPath(StrEnum):
    """How a likelihood is asked for, fastest first."""

    NATIVE = "native"  # vLLM's model runner V2 scores given tokens from a given row on
    SUFFIX = "suffix"  # log-probabilities of the prompt's end, its beginning from the prefix cache
    WHOLE = "whole"  # log-probabilities of the whole prompt, which is read anew: vLLM's default


class VllmEngine:
    """Samples candidates and scores given ones. Its temperature is fixed with likelihood "sampling"; greedy is free."""

    def __init__(self, core: VllmCore, tokenizer: Tokenizer, info: ModelInfo, path: ScoringPath) -> None:
        self.info = info
        self.core = core
        self._tokenizer = tokenizer
        self._path = path

    @classmethod
    async def load(cls, settings: EngineSettings) -> "VllmEngine":
        """Start the engine, fix its temperature, and find out how it can score."""
        tokenizer = await asyncio.to_thread(Tokenizer, settings.model, settings.revision)
        core = await VllmCore.start(settings, FIXED)
        try:
            await core.ask_workers("mend_sampling")
            if settings.likelihood is Likelihood.SAMPLING:
                await _temper(core, settings.temperature)
            info = await asyncio.to_thread(vllm_model_info, settings, core, tokenizer, make_language_model)
            engine = cls(core, tokenizer, info, ScoringPath.WHOLE)
            engine._path = await engine._fastest_path()
        except BaseException:
            core.close()
            raise
        log.info("scoring", path=engine._path.value)
        return engine

    @classmethod
    async def follow(cls, settings: EngineSettings) -> VllmFollower:
        """Start another node of such an engine than the one that serves."""
        return await VllmFollower.start(settings, FIXED)

    async def died(self) -> str:
        return await self.core.died()

    def close(self) -> None:
        self.core.close()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self._tokenizer.render(messages)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        check_prefix(prefix, self.info.max_length, self._vocabulary_size)
        self._check_law(sampling)
        self.core.admit()
        params = self._sampling_params(sampling, max_tokens=self.info.max_length - len(prefix))
        async for batch in as_finished(_once(range(n)), partial(self._candidate, prefix, params, seed)):
            yield batch

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        check_likelihood(sampling)
        check_prefix(prefix, self.info.max_length, self._vocabulary_size)
        self._check_law(sampling)
        self.core.admit()
        first = together(partial(self._first_tokens, prefix))
        likelihood = once_each(partial(self._log_likelihood, tuple(prefix), first))  # of several drafts that are equal

        async def score(candidate: TokenSequence) -> Score:
            return Score(candidate.index, await likelihood(candidate.token_ids))

        async for batch in as_finished(candidates, score):
            yield batch

    async def likelihood_by(
        self, path: ScoringPath, prefix: tuple[int, ...], token_ids: tuple[int, ...]
    ) -> float | None:
        """Return log pi(token_ids | prefix) in nats as one path gives it; None unless that is sound."""
        params = scoring_params(path, len(prefix), token_ids)
        output = await self.core.generate([*prefix, *token_ids], params, SCORING_PRIORITY)
        return sound_sum(*suffix_rows(path, output, len(token_ids)), token_ids)

    @property
    def _vocabulary_size(self) -> int:
        size: int = self.core.config.model_config.get_vocab_size()
        return size

    def _check_law(self, sampling: SamplingParams) -> None:
        """Raise InvalidRequestError for likelihoods that this engine cannot report."""
        if sampling.likelihood not in self.info.likelihoods:
            raise InvalidRequestError(
                f"likelihood is {sampling.likelihood}; allowed: {self.info.likelihoods[0]}, which this engine is set to"
            )
        fixed = self.info.temperature
        if sampling.temperature == 0:  # greedy: the likeliest token is the same at every temperature, in every nucleus
            return
        if fixed is not None and abs(sampling.temperature - fixed) > TEMPERATURE_TOLERANCE:
            raise InvalidRequestError(
                f"temperature is {sampling.temperature}; allowed: {fixed}, which this engine is set to"
            )
        if fixed is not None and sampling.top_p < 1:
            raise InvalidRequestError(
                f"top_p is {sampling.top_p}; allowed: 1 with likelihood sampling on vLLM, which scores no nucleus"
            )

    def _sampling_params(self, sampling: SamplingParams, max_tokens: int) -> VllmSamplingParams:
        """Return what the candidates of a proposal share. A tempered engine samples at temperature 1, or greedily."""
        is_tempered = self.info.temperature is not None and sampling.temperature > 0
        return VllmSamplingParams(
            temperature=1.0 if is_tempered else sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_step_tokens, max_tokens),
            stop=[STEP_DELIMITER],
            include_stop_str_in_output=True,
            stop_token_ids=list(self.info.eos_token_ids),
            logprobs=0,  # of the sampled token, and no other
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def _candidate(self, prefix: Sequence[int], params: VllmSamplingParams, seed: int, index: int) -> Candidate:
        own = params.clone()
        own.seed = derive_seed(seed, index)
        output = await self.core.generate(prefix, own, PROPOSAL_PRIORITY)
        return self._read(index, output.outputs[0], params)

    def _read(self, index: int, output: CompletionOutput, params: VllmSamplingParams) -> Candidate:
        """Read a candidate off vLLM's answer, up to the token that ends the step.

        With speculative decoding vLLM adds several tokens at once, and may run past the delimiter.
        """
        token_ids, eos, decode = output.token_ids, self.info.eos_token_ids, self._tokenizer.decode
        limit = params.max_tokens or len(token_ids)
        length, reason = len(token_ids), FinishReason.LENGTH if output.finish_reason == "length" else FinishReason.EOS
        for length in range(1, len(token_ids) + 1):
            if found := ending(token_ids[:length], decode, eos, limit):
                reason = found
                break
        written = tuple(token_ids[:length])
        log_likelihood = sound_sum(output.logprobs.logprobs[:length], output.logprobs.token_ids[:length], written)
        if log_likelihood is None:
            raise InternalError(UNSOUND)
        if params.temperature == 0 and self.info.likelihoods == (Likelihood.SAMPLING,):
            log_likelihood = 0.0  # vLLM's number is of the law before it took the likeliest token
        return Candidate(index, written, decode(written), log_likelihood, reason)

    async def _log_likelihood(self, prefix: tuple[int, ...], first: FirstToken, token_ids: tuple[int, ...]) -> float:
        """Return log pi(token_ids | prefix) in nats, by the whole prompt if the faster path gave no sound number."""
        check_vocabulary(token_ids, self._vocabulary_size, "candidate")
        if len(prefix) + len(token_ids) > self.info.max_length:
            raise InvalidRequestError(
                f"prefix and candidate have {len(prefix) + len(token_ids)} tokens; "
                f"allowed: at most {self.info.max_length}, the model's context"
            )
        value = await self._fast_likelihood(prefix, first, token_ids)
        if value is None and self._path is not ScoringPath.WHOLE:
            SCORES_RECOMPUTED.inc()
            value = await self.likelihood_by(ScoringPath.WHOLE, prefix, token_ids)
        if value is None:
            raise InternalError(UNSOUND)
        return value

    async def _fast_likelihood(
        self, prefix: tuple[int, ...], first: FirstToken, token_ids: tuple[int, ...]
    ) -> float | None:
        """Ask by the engine's path; where the prefix ends with a full block, apart for the first token.

        A token's row is that of the token before it. If that one ends a block, the block is in the cache, and each
        candidate would compute all of it again for the one row: so the first tokens of all are asked for together. Not
        of an engine that decodes speculatively: vLLM 0.32 dies where such a request meets one that writes.
        """
        block: int = self.core.config.cache_config.block_size
        if self._path is ScoringPath.WHOLE or len(prefix) % block or self.info.num_speculative_tokens:
            return await self.likelihood_by(self._path, prefix, token_ids)
        parts = [first(token_ids[0])]
        if len(token_ids) > 1:
            parts.append(self.likelihood_by(self._path, (*prefix, token_ids[0]), token_ids[1:]))
        values = await asyncio.gather(*parts)
        return None if None in values else math.fsum(value for value in values if value is not None)

    async def _first_tokens(self, prefix: Sequence[int], tokens: Sequence[int]) -> dict[int, float | None]:
        """Return the log-probabilities (nats) of tokens right behind the prefix, in one request."""
        distinct = sorted(set(tokens))
        params = VllmSamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprobs=len(distinct),
            logprob_token_ids=distinct,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self.core.generate(prefix, params, SCORING_PRIORITY)
        rows = output.outputs[0].logprobs
        values = dict(zip(rows.token_ids, rows.logprobs, strict=True))
        return {token: sound_sum([values[token]], [token], [token]) if token in values else None for token in distinct}

    async def _fastest_path(self) -> ScoringPath:
        """Return the fastest path that gives the likelihoods of the whole prompt.

        Each is tried twice, since the second time all that can be is in the cache, on both sides of a block's end.
        """
        block: int = self.core.config.cache_config.block_size
        longest = min(2 * block + 8, self.info.max_length)
        tokens = tuple(range(1, self._vocabulary_size))
        tokens = (tokens * (longest // len(tokens) + 1))[:longest]
        splits = [min(block + extra, longest - 2) for extra in (-1, 0, 1)]
        expected = [await self.likelihood_by(ScoringPath.WHOLE, tokens[:at], tokens[at:]) for at in splits]
        for path in (ScoringPath.NATIVE, ScoringPath.SUFFIX):
            try:
                got = [await self.likelihood_by(path, tokens[:at], tokens[at:]) for at in (*splits, *splits)]
            except InvalidRequestError as error:
                log.info("vLLM cannot score by this path", path=path.value, reason=str(error))
                continue
            if all(map(_is_close, got, expected * 2)):
                return path
            log.warning("vLLM scores wrongly by this path; it is not used", path=path.value, got=got, expected=expected)
        return ScoringPath.WHOLE


def scoring_params(path: ScoringPath, num_prefix: int, token_ids: Sequence[int]) -> VllmSamplingParams:
    """Return a request that scores ``token_ids`` behind ``num_prefix`` tokens. (vLLM wants one token written.)"""
    request = partial(
        VllmSamplingParams, max_tokens=1, temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
    )
    if path is ScoringPath.WHOLE:
        return request(prompt_logprobs=0, flat_logprobs=True, skip_reading_prefix_cache=True)
    suffix = {SUFFIX_TOKENS: len(token_ids)}
    if path is ScoringPath.SUFFIX:
        return request(prompt_logprobs=0, flat_logprobs=True, skip_reading_prefix_cache=False, extra_args=suffix)
    return request(
        prompt_logprob_token_ids=[[token] for token in token_ids],
        prompt_logprob_start=num_prefix - 1,  # the row of the token before, which predicts the first
        skip_reading_prefix_cache=False,
        extra_args=suffix,
    )


def suffix_rows(path: ScoringPath, output: RequestOutput, num_suffix: int) -> tuple[Sequence[float], Sequence[int]]:
    """Return log-probabilities and token ids of the suffix's rows, as many as are valid."""
    if path is ScoringPath.NATIVE:
        scores = output.prompt_token_id_logprobs
        values = [float(row[0]) for row in scores] if scores is not None else []
        return values, list(output.prompt_token_ids or ())[-num_suffix:]
    rows = output.prompt_logprobs
    first_computed = (output.num_cached_tokens or 0) + 1  # rows of cached tokens are uninitialised memory
    if rows is None or first_computed > len(output.prompt_token_ids or ()) - num_suffix:
        return [], []
    return rows.logprobs[-num_suffix:], rows.token_ids[-num_suffix:]


def sound_sum(values: Sequence[float], of: Sequence[int], token_ids: Sequence[int]) -> float | None:
    """Return the sum (nats, at most 0); None if a value is positive, not a number, missing, or of another token."""
    if len(values) != len(token_ids) or list(of) != list(token_ids):
        return None
    is_sound = all(value <= ROUNDING for value in values)  # NaN compares as false
    return min(math.fsum(values), 0.0) if is_sound else None


def make_language_model(config: Any) -> Any:
    """Make an untrained model of the class that this configuration is of; the checkpoint's own code is not run."""
    return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def vllm_model_info(
    settings: EngineSettings, core: VllmCore, tokenizer: Tokenizer, make: Callable[[Any], Any]
) -> ModelInfo:
    """Describe the model that the engine has loaded; ``make`` makes one like it of its Hugging Face configuration."""
    model_config = core.config.model_config
    hf_config = model_config.hf_config
    eos = model_config.try_get_generation_config().get("eos_token_id") or hf_config.eos_token_id
    is_language_model = model_config.runner_type == "generate"
    is_tempered = is_language_model and settings.likelihood is Likelihood.SAMPLING
    speculative = core.config.speculative_config
    return ModelInfo(
        model=settings.model,
        revision=settings.revision or getattr(hf_config, "_commit_hash", None) or "local",
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocabulary_size=tokenizer.size,
        max_length=model_config.max_model_len - int(is_language_model),  # vLLM keeps room for a token to write
        eos_token_ids=tuple(eos) if isinstance(eos, list) else (eos,),
        step_delimiter_token_ids=tokenizer.encode(STEP_DELIMITER),
        likelihoods=(settings.likelihood,) if is_language_model else (),
        engine="vllm",
        engine_version=core.version,
        temperature=settings.temperature if is_tempered else None,
        num_parameters=num_parameters_if_made(partial(make, hf_config)),
        num_speculative_tokens=speculative.num_speculative_tokens if speculative is not None else 0,
    )


async def _temper(core: VllmCore, temperature: float) -> None:
    """Make the engine sample at, and report likelihoods of, one temperature. Raises MisconfiguredError if it cannot."""
    if not any(await core.ask_workers("temper", temperature)):
        raise MisconfiguredError(
            "likelihood: vLLM scales no logits of this architecture, so it cannot report sampling; allowed: model"
        )


def _is_close(value: float | None, expected: float | None) -> bool:
    return value is not None and expected is not None and abs(value - expected) <= PROBE_TOLERANCE * abs(expected)


async def _once(items: Sequence[int]) -> AsyncGenerator[Sequence[int], None]:
    yield items
