"""A draft or target model behind a model server: a proposal of n candidates is n requests, as is a score of n."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Score
from gsi.algorithm.judging import Question
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, ScoreBatches, TokenBatches, TokenSequence
from gsi.algorithm.seeds import derive_seed
from gsi.engines.base import (
    SAME_AS_MODEL,
    EngineSettings,
    check_candidates,
    check_likelihood,
    check_prefix,
)
from gsi.engines.concurrency import memoize, stream_results
from gsi.engines.hugging_face.judging import QuestionWriter
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.log_probabilities import UNSOUND, sum_if_sound
from gsi.engines.on_remote.finding import refuse_server, wait_for_server, watch_model
from gsi.engines.on_remote.http import Http
from gsi.engines.on_remote.llamacpp_server import LlamacppServer, describe_llamacpp
from gsi.engines.on_remote.model_description import describe_model
from gsi.engines.on_remote.model_server import Draw, Drawn, LanguageServer, RemoteKind, ScoringServer
from gsi.engines.on_remote.probing import check_draws, check_law, check_scores, check_tokenizer
from gsi.engines.on_remote.sglang_server import SglangServer, describe_sglang
from gsi.engines.on_remote.vllm_server import VllmServer, describe_vllm
from gsi.engines.sampling_law import check_one_law
from gsi.engines.step_end import find_finish_reason, read_text
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError
from gsi.model_info import ModelInfo

log = structlog.get_logger()

MAX_DRAWS = 4  # of a candidate whose ids the tokenizer does not know: one in millions, of a trained model


class RemoteEngine:
    """Samples candidates and scores given candidates, each by a request to the server.

    With likelihood "sampling" the engine has temperature 1; greedy decoding is always possible.
    """

    def __init__(
        self,
        http: Http,
        server: LanguageServer,
        scorer: ScoringServer | None,
        tokenizer: Tokenizer,
        info: ModelInfo,
    ) -> None:
        self.info = info
        self.server = server
        self.http = http
        self._scorer = scorer  # None: the server scores no given tokens
        self._tokenizer = tokenizer
        self._questions = QuestionWriter(tokenizer, info.max_length, info.vocabulary_size, info.eos_token_ids)

    @classmethod
    async def load(cls, settings: EngineSettings) -> "RemoteEngine":
        """Wait for the server, and find out what it can report."""
        refuse_engine_args(settings)
        check_law(settings.likelihood, settings.temperature)
        tokenizer = await asyncio.to_thread(Tokenizer.load, settings)
        http = Http(settings)
        try:
            server, scorer = await _connect(http, settings, tokenizer)
            await check_tokenizer(server, tokenizer)
            if scorer is None:
                await check_draws(server, tokenizer, settings.likelihood)
            else:
                await check_scores(scorer, tokenizer, settings.likelihood)
            likelihoods = (settings.likelihood,)
            info = await asyncio.to_thread(describe_model, settings, server.description, tokenizer, likelihoods)
            info = replace(info, can_judge=scorer is not None)
        except BaseException as error:
            await http.wait_closed()
            refuse_server(http, error)
            raise
        http.has_started = True
        log.info("model server", url=http.url, engine=info.engine_version, likelihood=settings.likelihood.value)
        return cls(http, server, scorer, tokenizer, info)

    async def wait_until_dead(self) -> str:
        return await watch_model(self.http, self.server.description.model)

    def close(self) -> None:
        self.http.close()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self._tokenizer.render(messages)

    def show(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.show(token_ids)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        check_prefix(prefix, self.info.max_length, self.info.vocabulary_size)
        check_one_law(self.info, sampling)
        max_tokens = min(sampling.max_step_tokens, self.info.max_length - len(prefix))
        sample = partial(self._sample, prefix, sampling, max_tokens, seed)
        async with aclosing(stream_results(_yield_once(range(n)), sample)) as batches:
            async for batch in batches:
                yield batch

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        check_likelihood(sampling)
        check_prefix(prefix, self.info.max_length, self.info.vocabulary_size)
        check_one_law(self.info, sampling)
        if self._scorer is None:
            raise InvalidRequestError(f"{self.http.url} scores no given tokens; allowed: proposals")
        likelihood = memoize(partial(self._score, self._scorer, prefix))  # a small draft repeats itself

        async def score(candidate: TokenSequence) -> Score:
            return Score(candidate.index, await likelihood(tuple(candidate.token_ids)))

        checked = check_candidates(candidates, len(prefix), self.info.max_length, self.info.vocabulary_size)
        async with aclosing(stream_results(checked, score)) as batches:
            async for batch in batches:
                yield batch

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        if self._scorer is None:
            raise InvalidRequestError(f"{self.http.url} scores no given tokens, and so judges nothing")
        asked = await self._questions.ask(prefix, question)
        values = await self._scorer.score_next(asked.token_ids, asked.label_ids)
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            raise InternalError(UNSOUND)
        return asked.read(known)

    async def _sample(
        self, prefix: Sequence[int], sampling: SamplingParams, max_tokens: int, seed: int, index: int
    ) -> Candidate:
        """Sample candidate ``index`` with its own random numbers.

        A last layer may be wider than the tokenizer, and a server does not hide the ids beyond it, which no other model
        would take: such a candidate is drawn again. Its likelihood stays the server's own, over all ids.
        """
        own, num_ids = derive_seed(seed, index), self._tokenizer.num_ids
        for attempt in range(MAX_DRAWS):
            random = derive_seed(own, attempt) if attempt else own
            draw = Draw(sampling.temperature, sampling.top_p, random, max_tokens, self.info.eos_token_ids)
            drawn = await self.server.draw(prefix, draw)
            if max(drawn.token_ids, default=0) < num_ids:
                return self._read_candidate(drawn, prefix, index, max_tokens, is_greedy=sampling.temperature == 0)
        raise InternalError(f"{self.http.url} wrote ids beyond the tokenizer's {num_ids}, {MAX_DRAWS} times in turn")

    def _read_candidate(
        self, drawn: Drawn, prefix: Sequence[int], index: int, max_tokens: int, *, is_greedy: bool
    ) -> Candidate:
        """Return the candidate in what was drawn, up to the token that ends the step."""
        length, reason = len(drawn.token_ids), FinishReason.LENGTH if drawn.is_cut else FinishReason.EOS
        for end in range(1, length + 1):
            found = find_finish_reason(
                drawn.token_ids[:end], self._tokenizer.decode, self.info.eos_token_ids, max_tokens
            )
            if found is not None:
                length, reason = end, found
                break
        written = drawn.token_ids[:length]
        log_likelihood = sum_if_sound(drawn.log_probabilities[:length], written, written)
        if log_likelihood is None or not written:
            raise InternalError(UNSOUND)
        if is_greedy and self.info.likelihoods == (Likelihood.SAMPLING,):
            log_likelihood = 0.0  # the server's number is of the law before greedy decoding took its likeliest token
        text = read_text(self._tokenizer.decode, prefix, written, reason)
        return Candidate(index, written, text, log_likelihood, reason)

    async def _score(self, scorer: ScoringServer, prefix: Sequence[int], token_ids: tuple[int, ...]) -> float:
        value = await scorer.score(prefix, token_ids)
        if value is None:
            raise InternalError(UNSOUND)
        return value


def refuse_engine_args(settings: EngineSettings) -> None:
    """Raise MisconfiguredError if arguments are given that belong to the server."""
    if settings.head_dtype != SAME_AS_MODEL:
        raise MisconfiguredError(
            f"head_dtype: {settings.head_dtype}; allowed: {SAME_AS_MODEL} with engine remote; start vLLM's server with "
            """--hf-overrides '{"head_dtype": "float32"}'"""
        )
    if settings.engine_args:
        raise MisconfiguredError(
            f"engine_args: {settings.engine_args}; allowed: none with engine remote; start the server with them"
        )


async def _connect(
    http: Http, settings: EngineSettings, tokenizer: Tokenizer
) -> tuple[LanguageServer, ScoringServer | None]:
    """Return the server, twice if it can score. Raises MisconfiguredError for a target that cannot."""
    kind, model = await wait_for_server(http, settings)
    scorer: ScoringServer
    if kind is RemoteKind.LLAMACPP:
        if settings.role == "target":
            raise MisconfiguredError(
                f"remote_kind: {http.url} is llama.cpp's server, which scores no given tokens; allowed for a target: "
                "vllm, sglang (llamacpp can be the draft)"
            )
        return LlamacppServer(http, await describe_llamacpp(http, model), _step_end(tokenizer)), None
    if kind is RemoteKind.SGLANG:
        scorer = SglangServer(http, await describe_sglang(http, model))
    else:
        scorer = VllmServer(http, await describe_vllm(http, model))
    return scorer, scorer


def _step_end(tokenizer: Tokenizer) -> Any:
    """Return a function that says whether tokens end a step by the delimiter."""

    def is_end(token_ids: Sequence[int]) -> bool:
        return find_finish_reason(token_ids, tokenizer.decode, (), len(token_ids) + 1) is FinishReason.DELIMITER

    return is_end


async def _yield_once(items: Sequence[int]) -> AsyncGenerator[Sequence[int], None]:
    yield items
