"""A reward model behind ``vllm serve --runner pooling``. Source: ``entrypoints/pooling`` of vLLM 0.32.

Read are the raw outputs at the last token of what is sent: the last row of a server that answers for every token or
every mark (Qwen2.5-Math-PRM), or the one row of a sequence classifier. vLLM reads a whole trajectory anew for each
answer with a row for every token. A language model that rates is behind a plain ``vllm serve``: read are the
log-probabilities of the tokens that it may answer with, each by a request for its score.
"""

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.ports import ScoreBatches, StepText, TextBatches
from gsi.engines.base import EngineSettings, check_length
from gsi.engines.concurrency import memoize, stream_results
from gsi.engines.hugging_face.reward_families import (
    BY_NAME,
    FAMILIES,
    RewardFamily,
    find_family,
    read_architecture,
    read_reward,
)
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_remote.finding import refuse_server, wait_for_server, watch_model
from gsi.engines.on_remote.http import Http
from gsi.engines.on_remote.language import refuse_engine_args
from gsi.engines.on_remote.model_description import describe_model
from gsi.engines.on_remote.model_server import RemoteKind, ServerDescription
from gsi.engines.on_remote.vllm_server import VllmServer, describe_vllm
from gsi.engines.text_threads import TextThreads, count_characters
from gsi.errors import InternalError, MisconfiguredError
from gsi.model_info import ModelInfo

log = structlog.get_logger()

PROBE = (Message("user", "What is 1 + 1?"),)
PROBE_STEP = "1 + 1 = 2.\n\n"
EVERY_TOKEN = (
    """vllm serve --runner pooling --pooler-config '{"pooling_type": "ALL"}', or with the step_tag_id of its mark"""
)
SAME = 1e-6  # between outputs of two requests that a server answers alike


class RemoteRewardEngine:
    """Rates candidates, each by a request to the server."""

    def __init__(self, http: Http, server: ServerDescription, family: RewardFamily, info: ModelInfo) -> None:
        self.info = info
        self.http = http
        self._server = server
        self._scorer = VllmServer(http, server)  # of a language model that rates
        self._family = family
        self._texts = TextThreads()

    @classmethod
    async def load(cls, settings: EngineSettings) -> "RemoteRewardEngine":
        """Wait for the server, and find out whether it gives the outputs that the family of its model is read by."""
        refuse_engine_args(settings)
        tokenizer, architecture, family = await asyncio.to_thread(_read_checkpoint, settings)
        http = Http(settings)
        try:
            kind, model = await wait_for_server(http, settings)
            if kind is not RemoteKind.VLLM:
                raise MisconfiguredError(f"remote_kind: {http.url} is {kind}; allowed for a PRM: vllm")
            server = await describe_vllm(http, model)
            info = await asyncio.to_thread(describe_model, settings, server, tokenizer, (), architecture)
            info = replace(
                info,
                max_length=_max_length(server, family),
                has_bounded_rewards=family.is_bounded,
                reading=family.reading,
                profile=family.profile.name,
            )
            engine = cls(http, server, family, info)
            await engine.check_outputs()
        except BaseException as error:
            await http.wait_closed()
            refuse_server(http, error)
            raise
        http.has_started = True
        log.info("model server", url=http.url, engine=info.engine_version, architecture=architecture)
        return engine

    async def wait_until_dead(self) -> str:
        return await watch_model(self.http, self._server.model)

    def close(self) -> None:
        self._texts.close()
        self.http.close()

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        num_characters = count_characters(messages, steps)
        prefix = await self._texts.run(num_characters, self._family.prefix, messages, steps)
        reward = memoize(partial(self._rate, prefix, not steps))  # a small draft repeats itself

        async def score(candidate: StepText) -> Score:
            return Score(candidate.index, await reward(candidate.text))

        async with aclosing(stream_results(candidates, score)) as batches:
            async for batch in batches:
                yield batch

    async def check_outputs(self) -> None:
        """Rate one step. Raises MisconfiguredError if the server gives other outputs than raw ones of the family."""
        candidate = self._family.candidate(PROBE_STEP, is_first=True)
        token_ids = [*self._family.prefix(PROBE, ()), *candidate[: self._family.places(candidate)[-1] + 1]]
        if self._family.label_token_ids:
            log.info("one step rated", reward=read_reward(self._family, [await self._read_outputs(token_ids)]))
            return
        raw = await self._pool(token_ids, use_activation=False)
        if not raw:
            raise MisconfiguredError(f"model: the server gives no outputs at the end of a step; allowed: {EVERY_TOKEN}")
        activated = await self._pool(token_ids, use_activation=True)
        try:
            reward = read_reward(self._family, [raw])
        except (ValueError, InternalError) as error:
            raise MisconfiguredError(
                f"model: the server gives {len(raw)} outputs a token ({error}), which is no {FAMILIES} as "
                f"{self.info.model} is one; allowed: the reward model of that config.json"
            ) from error
        is_same = all(math.isclose(a, b, abs_tol=SAME) for a, b in zip(raw, activated, strict=True))
        if is_same and self._family.is_bounded:
            raise MisconfiguredError(
                f"model: the server gives the same outputs with and without its activation, {raw}, so that they cannot "
                "be told from probabilities; allowed: vllm serve --runner pooling, which heeds use_activation"
            )
        log.info("one step rated", reward=reward, outputs=raw)

    async def _rate(self, prefix: Sequence[int], is_first: bool, text: str) -> float:
        read = partial(self._family.candidate, is_first=is_first)
        candidate = await self._texts.run(len(text), read, text)
        check_length(len(prefix) + len(candidate), self.info.max_length, len(prefix))
        ends = [[*prefix, *candidate[: place + 1]] for place in self._family.places(candidate)]
        return read_reward(self._family, await asyncio.gather(*map(self._read_outputs, ends)))

    async def _read_outputs(self, token_ids: Sequence[int]) -> list[float]:
        """Return the outputs at the last of the tokens."""
        if not self._family.label_token_ids:
            return await self._pool(token_ids, use_activation=False)
        found = await asyncio.gather(
            *(self._scorer.score(token_ids, (label,)) for label in self._family.label_token_ids)
        )
        return [math.nan if value is None else value for value in found]

    async def _pool(self, token_ids: Sequence[int], *, use_activation: bool) -> list[float]:
        """Return the outputs at the last token that the server answers for."""
        body = {"model": self._server.model, "input": list(token_ids), "use_activation": use_activation}
        (answer,) = (await self.http.post("/pooling", body))["data"]
        rows: Any = answer["data"]
        outputs = rows[-1] if rows and isinstance(rows[-1], list) else rows
        return [float(value) for value in outputs]


def _max_length(server: ServerDescription, family: RewardFamily) -> int:
    """Return how many tokens can be rated: a reward model writes nothing; one of tokens reads its answer, too."""
    return server.max_length - 1 if family.label_token_ids else server.max_length + 1


def _read_checkpoint(settings: EngineSettings) -> tuple[Tokenizer, str, RewardFamily]:
    """Return tokenizer, architecture and family. Raises MisconfiguredError for a model of no known family."""
    tokenizer = Tokenizer.load(settings)
    architecture, num_labels = read_architecture(settings)
    family = find_family(architecture, num_labels, tokenizer, settings.model, settings.reading, settings.profile)
    if family is None:
        raise MisconfiguredError(
            f"model: {settings.model} is a {architecture}; allowed with engine remote: {FAMILIES}; language models by "
            f"GSI_PRM_PROFILE: {BY_NAME}, or your own"
        )
    return tokenizer, architecture, family
