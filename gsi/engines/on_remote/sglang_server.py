"""An SGLang server, by its published interface ``/generate``.

Sources: ``docs/basic_usage/sampling_params.md`` and ``native_api`` of SGLang's documentation. Its log-probabilities of
given tokens are those of temperature 1; those of drawn tokens are behind the temperature, unless it was started with
``SGLANG_RETURN_ORIGINAL_LOGPROB=1``. It honours seeds with ``--enable-deterministic-inference``.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from gsi.engines.base import STEP_DELIMITER
from gsi.engines.log_probabilities import sum_if_sound
from gsi.engines.on_remote.http import Http
from gsi.engines.on_remote.model_server import Draw, Drawn, RemoteKind, ServerDescription
from gsi.errors import MisconfiguredError

RESERVED_TOKENS = 8  # of the context: SGLang refuses prompts that leave fewer than about six tokens
GREEDY_SEED_BITS = 31  # SGLang's seeds are 32-bit integers with a sign
NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


class SglangServer:
    """A server of a language model."""

    raw_hint = "start it with SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment"

    def __init__(self, http: Http, description: ServerDescription) -> None:
        self.description = description
        self._http = http

    async def tokenize(self, text: str) -> Sequence[int] | None:
        body = {"model": self.description.model, "prompt": text, "add_special_tokens": False}
        answer = await self._http.find("/tokenize", body)
        return answer["tokens"] if answer is not None else None

    async def draw(self, prefix: Sequence[int], draw: Draw) -> Drawn:
        sampling = {
            "max_new_tokens": draw.max_tokens,
            "temperature": draw.temperature,
            "top_p": draw.top_p,
            **NEUTRAL,
            "sampling_seed": draw.seed % 2**GREEDY_SEED_BITS,
            "stop": [STEP_DELIMITER],
            "stop_token_ids": list(draw.stop_token_ids),
            "no_stop_trim": True,
            "skip_special_tokens": False,
        }
        body = {"input_ids": list(prefix), "sampling_params": sampling, "return_logprob": True}
        said = (await self._http.post("/generate", body))["meta_info"]
        rows = said["output_token_logprobs"]
        is_cut = (said["finish_reason"] or {}).get("type") == "length"
        return Drawn(tuple(row[1] for row in rows), tuple(row[0] for row in rows), is_cut)

    async def score(self, prefix: Sequence[int], token_ids: Sequence[int]) -> float | None:
        body = {
            "input_ids": [*prefix, *token_ids],
            "sampling_params": {"max_new_tokens": 1, "temperature": 0.0, **NEUTRAL},
            "return_logprob": True,
            "logprob_start_len": len(prefix) - 1,  # the first row has no number: nothing before it was read
        }
        rows = (await self._http.post("/generate", body))["meta_info"]["input_token_logprobs"][-len(token_ids) :]
        if any(row[0] is None for row in rows):
            return None
        return sum_if_sound([row[0] for row in rows], [row[1] for row in rows], token_ids)

    async def score_next(self, prefix: Sequence[int], tokens: Sequence[int]) -> Sequence[float | None]:
        return await asyncio.gather(*(self.score(prefix, (token,)) for token in tokens))

    async def prepare_scores(self, prefix: Sequence[int], token_ids: Sequence[int]) -> str:  # noqa: ARG002
        return "generate"  # SGLang reads what its cache lacks, from the row asked for on


async def describe_sglang(http: Http, model: dict[str, Any]) -> ServerDescription:
    """Describe a server by the entry of its model in ``/v1/models``."""
    said = await http.find("/get_server_info") or {}
    max_length = model.get("max_model_len") or said.get("context_length")
    if not max_length:
        raise MisconfiguredError(f"{http.url} does not say its context length; allowed: SGLang 0.4 or newer")
    return ServerDescription(RemoteKind.SGLANG, str(said.get("version", "")), model["id"], max_length - RESERVED_TOKENS)
