"""Likelihoods of given candidates on vLLM, at the cost of each candidate's own tokens.

Theory of operation
-------------------

At every step the target scores n candidates behind one prefix, which is the prompt and the kept steps. A forward pass
over prefix and candidate gives a row of logits at each token, and the row at a token predicts the next token. With a
prefix p of k tokens and a candidate c of m tokens:

    read           p1   p2   ...  pk    c1   c2   ...  cm
    row predicts   p2   p3   ...  c1    c2   c3   ...  (the token behind the candidate)
    needed                        yes   yes  yes  ...  no

So log pi(c | p) is the sum of m log-probabilities: one from the row at the last token of the prefix, and one from the
row at each token of the candidate but the last. Nothing else of the prefix is needed but its keys and values, and
vLLM's prefix cache has them: the step before read the same tokens, and n candidates share the prefix. If only the
tokens without keys and values are computed, a step costs about n * m tokens instead of n * (k + m). With k = 2,000,
m = 50 and n = 16 that is 800 tokens instead of 32,800.

Three properties of vLLM stand in the way.

**A token from the cache has no row.** vLLM computes rows only of the tokens that it reads now. By default, a request
for log-probabilities of its prompt therefore does not use the prefix cache: path WHOLE. A request may insist on the
cache; then the rows of cached tokens are uninitialised memory, and there is no error. So a scoring request says how
many tokens its suffix has, the candidate, and the scheduler of ``inside/scheduler.py`` lets the cache hit end early
enough that the last token of the prefix is read again: path SUFFIX. Every row in the answer was computed for that
request; no answer is put together from several. vLLM's newer model runner can also begin at a given row and score
given tokens: path NATIVE. It needs the shorter cache hit as well.

**A cache hit is a number of whole blocks**, of 16 or 32 tokens. What follows the last whole block before the row at
pk is computed again, which is less than a block, unless pk ends a block. Then that whole block is computed again for
the sake of one row, and for each candidate. In this case the first tokens of all candidates are scored by one request
that reads the prefix alone (vLLM takes 128 different ones; more are split over several requests), and the rest of each
candidate is scored behind the prefix and its first token.

**A wrong number looks like a right one.** The scheduler of vLLM is not a public interface, so two checks guard against
a new version. When the engine starts, ``choose_path`` scores the same tokens by each path, cold and cached, on both
sides of a block's end, and takes the fastest path that agrees with WHOLE. Later, every answer is checked
(``log_probabilities.py``); a candidate whose answer is unsound is scored again by WHOLE and counted.

What else was tried: ``docs/decisions/0007-suffix-scoring-in-vllm.md``. Measurements: ``benchmarks/RESULTS.md``.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from vllm import SamplingParams as VllmSamplingParams
from vllm.config import VllmConfig
from vllm.outputs import RequestOutput
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS, RequestOutputKind

from gsi.algorithm.candidates import Score
from gsi.algorithm.ports import ScoreBatches, TokenBatches, TokenSequence
from gsi.engines.concurrency import coalesce, memoize, stream_results
from gsi.engines.log_probabilities import UNSOUND, sum_if_sound
from gsi.engines.on_vllm.core import SCORING_PRIORITY, VllmCore
from gsi.engines.on_vllm.inside.scheduler import SUFFIX_TOKENS
from gsi.engines.on_vllm.metrics import SCORES_RECOMPUTED
from gsi.errors import InternalError, InvalidRequestError
from gsi.model_info import ModelInfo

log = structlog.get_logger()

PROBE_TOLERANCE = 0.01  # of the likelihood: garbage is off by a factor, half precision by a tenth of this

V2_LOGITS_ROWS = 1024  # of a prompt at once, in vLLM's model runner V2

ScoreFirstToken = Callable[[int], Coroutine[Any, Any, float | None]]


class ScoringPath(StrEnum):
    """How vLLM is asked for a likelihood, the fastest way first."""

    NATIVE = "native"  # vLLM's model runner V2 scores given tokens from a given row on
    SUFFIX = "suffix"  # log-probabilities of the end of the prompt; its beginning comes from the prefix cache
    WHOLE = "whole"  # log-probabilities of the whole prompt, which vLLM reads without its prefix cache


class SuffixScorer:
    """Scores candidates behind a prefix, with one engine and by one path."""

    def __init__(self, core: VllmCore, info: ModelInfo, path: ScoringPath = ScoringPath.WHOLE) -> None:
        self.path = path
        self._core = core
        self._max_length = info.max_length
        self._num_tokens = min(info.vocabulary_size, core.vocabulary_size)
        self._is_speculative = info.num_speculative_tokens > 0

    async def score(self, prefix: Sequence[int], candidates: TokenBatches) -> ScoreBatches:
        """Yield the log-likelihood (nats) of each candidate behind the prefix, in completion order."""
        first = coalesce(partial(self._score_first_tokens, prefix))
        likelihood = memoize(partial(self._score_candidate, tuple(prefix), first))  # a small draft repeats itself

        async def score(candidate: TokenSequence) -> Score:
            return Score(candidate.index, await likelihood(candidate.token_ids))

        async with aclosing(stream_results(candidates, score)) as batches:
            async for batch in batches:
                yield batch

    async def score_by(self, path: ScoringPath, prefix: tuple[int, ...], token_ids: tuple[int, ...]) -> float | None:
        """Return log pi(token_ids | prefix) in nats by a given path; None if the answer is not sound."""
        params = make_scoring_params(path, len(prefix), token_ids)
        output = await self._core.generate([*prefix, *token_ids], params, SCORING_PRIORITY)
        return sum_if_sound(*read_suffix_rows(path, output, len(token_ids)), token_ids)

    async def score_tokens(self, prefix: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Return the log-probability (nats) of each token right behind the prefix, by one request if vLLM can.

        An engine that decodes speculatively takes a request for each token, for the reason in ``_score_fast``.
        """
        found = {} if self._is_speculative else await self._score_first_tokens(prefix, tokens)
        first = coalesce(partial(self._score_first_tokens, prefix))

        async def score(token: int) -> float:
            known = found.get(token)
            return await self._score_candidate(tuple(prefix), first, (token,)) if known is None else known

        return await asyncio.gather(*map(score, tokens))

    async def choose_path(self) -> None:
        """Set ``path`` to the fastest path whose likelihoods are those of the whole prompt.

        Each path scores everything twice, because the second time as much as possible is in the cache.
        """
        block = self._core.block_size
        longest = min(2 * block + 8, self._max_length)
        tokens = tuple(range(1, self._num_tokens))
        tokens = (tokens * (longest // len(tokens) + 1))[:longest]
        splits = [min(block + extra, longest - 2) for extra in (-1, 0, 1)]  # on both sides of a block's end
        expected = [await self.score_by(ScoringPath.WHOLE, tokens[:at], tokens[at:]) for at in splits]
        for path in (ScoringPath.NATIVE, ScoringPath.SUFFIX):
            try:
                got = [await self.score_by(path, tokens[:at], tokens[at:]) for at in (*splits, *splits)]
            except InvalidRequestError as error:
                log.info("vLLM cannot score by this path", path=path.value, reason=str(error))
                continue
            if all(map(_is_close, got, expected * 2)):
                self.path = path
                return
            log.warning("vLLM scores wrongly by this path; it is not used", path=path.value, got=got, expected=expected)
        log.warning("vLLM reads whole prompts to score", gib_for_logits=gib_of_whole_logits(self._core.config))

    async def _score_candidate(
        self, prefix: tuple[int, ...], score_first: ScoreFirstToken, token_ids: tuple[int, ...]
    ) -> float:
        """Return log pi(token_ids | prefix) in nats, by the whole prompt if the faster path gave no sound number."""
        value = await self._score_fast(prefix, score_first, token_ids)
        if value is None and self.path is not ScoringPath.WHOLE:
            SCORES_RECOMPUTED.inc()
            value = await self.score_by(ScoringPath.WHOLE, prefix, token_ids)
        if value is None:
            raise InternalError(UNSOUND)
        return value

    async def _score_fast(
        self, prefix: tuple[int, ...], score_first: ScoreFirstToken, token_ids: tuple[int, ...]
    ) -> float | None:
        """Score by the engine's path; where the prefix ends with a full block, score the first token apart.

        An engine that decodes speculatively never scores first tokens apart: vLLM 0.32 ends where a request for the
        log-probabilities of given tokens meets a request that decodes speculatively.
        """
        if self.path is ScoringPath.WHOLE or len(prefix) % self._core.block_size or self._is_speculative:
            return await self.score_by(self.path, prefix, token_ids)
        parts = [score_first(token_ids[0])]
        if len(token_ids) > 1:
            parts.append(self.score_by(self.path, (*prefix, token_ids[0]), token_ids[1:]))
        values = await asyncio.gather(*parts)
        return None if None in values else math.fsum(value for value in values if value is not None)

    async def _score_first_tokens(self, prefix: Sequence[int], tokens: Sequence[int]) -> dict[int, float | None]:
        """Return the log-probabilities (nats) of tokens right behind the prefix, by as few requests as vLLM allows."""
        distinct = sorted(set(tokens))
        chunks = [distinct[at : at + MAX_LOGPROB_TOKEN_IDS] for at in range(0, len(distinct), MAX_LOGPROB_TOKEN_IDS)]
        answers = await asyncio.gather(*(self._ask_first_tokens(prefix, chunk) for chunk in chunks))
        return {token: value for answer in answers for token, value in answer.items()}

    async def _ask_first_tokens(self, prefix: Sequence[int], tokens: Sequence[int]) -> dict[int, float | None]:
        """Return the log-probabilities (nats) of at most ``MAX_LOGPROB_TOKEN_IDS`` tokens, by one request."""
        params = VllmSamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprobs=len(tokens),
            logprob_token_ids=list(tokens),
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._core.generate(prefix, params, SCORING_PRIORITY)
        rows = output.outputs[0].logprobs
        values = dict(zip(rows.token_ids, rows.logprobs, strict=True))
        return {token: sum_if_sound([values[token]], [token], [token]) if token in values else None for token in tokens}


def gib_of_whole_logits(config: VllmConfig) -> float:
    """Return the memory (GiB) that vLLM needs for the logits of a whole prompt, which it has not reserved.

    Its model runner V1 makes the logits of a whole chunk of the prompt at once, and their log-probabilities beside
    them, in single precision; V2 goes through the chunk in parts.
    """
    rows = min(config.scheduler_config.max_num_batched_tokens, config.model_config.max_model_len)
    rows = min(rows, V2_LOGITS_ROWS) if config.use_v2_model_runner else rows
    return float(2 * 4 * rows * config.model_config.get_vocab_size() / 2**30)


def make_scoring_params(path: ScoringPath, num_prefix: int, token_ids: Sequence[int]) -> VllmSamplingParams:
    """Return a request that scores ``token_ids`` behind ``num_prefix`` tokens. vLLM must write at least one token."""
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
        prompt_logprob_start=num_prefix - 1,  # the row at the last token of the prefix predicts the first token
        skip_reading_prefix_cache=False,
        extra_args=suffix,
    )


def read_suffix_rows(
    path: ScoringPath, output: RequestOutput, num_suffix: int
) -> tuple[Sequence[float], Sequence[int]]:
    """Return the log-probabilities of the suffix and the token id of each; nothing if a row was not computed."""
    if path is ScoringPath.NATIVE:
        scores = output.prompt_token_id_logprobs
        values = [float(row[0]) for row in scores] if scores is not None else []
        return values, list(output.prompt_token_ids or ())[-num_suffix:]
    rows = output.prompt_logprobs
    first_computed = (output.num_cached_tokens or 0) + 1  # rows of cached tokens are uninitialised memory
    if rows is None or first_computed > len(output.prompt_token_ids or ()) - num_suffix:
        return [], []
    return rows.logprobs[-num_suffix:], rows.token_ids[-num_suffix:]


def _is_close(value: float | None, expected: float | None) -> bool:
    return value is not None and expected is not None and abs(value - expected) <= PROBE_TOLERANCE * abs(expected)
