"""A stock ``vllm serve``. Sources: ``vllm/entrypoints`` of vLLM 0.32, in the folders named below.

Tokens are drawn by ``/v1/completions`` (``openai/completion``). Scores come by the first way that works:

- ``generate``: ``/inference/v1/generate`` (``scale_out/token_in_token_out``; ``--enable-scale-out``, and vLLM's newer
  model runner) scores given tokens from a given row on, over the prefix cache. Where the cache covers the row before
  the candidate, there is no answer, and the request is sent again without the cache.
- ``completions``: log-probabilities of the whole prompt, for which vLLM reads the whole prompt anew.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog

from gsi.engines.base import STEP_DELIMITER
from gsi.engines.log_probabilities import sum_if_sound
from gsi.engines.on_remote.http import Http
from gsi.engines.on_remote.model_server import Draw, Drawn, RemoteKind, ServerDescription
from gsi.errors import InvalidRequestError

log = structlog.get_logger()

GENERATE = "/inference/v1/generate"
COMPLETIONS = "/v1/completions"
SAME_SCORE = 0.05  # nats a token between two ways to score: rounding in half precision, and not garbage
NEUTRAL = {  # the server's defaults come from the checkpoint, and would change what is drawn
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class VllmServer:
    """A server of a language model."""

    raw_hint = "start it with --logprobs-mode raw_logprobs, which is vLLM's default"

    def __init__(self, http: Http, description: ServerDescription) -> None:
        self.description = description
        self._http = http
        self._has_rows = False  # whether ``generate`` can score

    async def tokenize(self, text: str) -> Sequence[int] | None:
        body = {"model": self.description.model, "prompt": text, "add_special_tokens": False}
        answer = await self._http.find("/tokenize", body)
        return answer["tokens"] if answer is not None else None

    async def draw(self, prefix: Sequence[int], draw: Draw) -> Drawn:
        body = {
            "model": self.description.model,
            "prompt": list(prefix),
            "max_tokens": draw.max_tokens,
            "temperature": draw.temperature,
            "top_p": draw.top_p,
            **NEUTRAL,
            "seed": draw.seed,
            "stop": [STEP_DELIMITER],
            "include_stop_str_in_output": True,
            "stop_token_ids": list(draw.stop_token_ids),
            "logprobs": 0,  # of the drawn token, and no other
            "return_token_ids": True,
        }
        (choice,) = (await self._http.post(COMPLETIONS, body))["choices"]
        return Drawn(
            tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"]), choice["finish_reason"] == "length"
        )

    async def score(self, prefix: Sequence[int], token_ids: Sequence[int]) -> float | None:
        if not self._has_rows:
            return await self._score_whole(prefix, token_ids)
        value = await self._score_rows(prefix, token_ids, reads_cache=True)
        return await self._score_rows(prefix, token_ids, reads_cache=False) if value is None else value

    async def score_next(self, prefix: Sequence[int], tokens: Sequence[int]) -> Sequence[float | None]:
        """Draw one token, for the log-probabilities of the given ones beside it: that reads the prefix cache."""
        body = {
            "model": self.description.model,
            "prompt": list(prefix),
            "max_tokens": 1,
            "temperature": 1.0,
            **NEUTRAL,
            "logprobs": len(tokens),
            "logprob_token_ids": list(tokens),
            "return_tokens_as_token_ids": True,
        }
        (choice,) = (await self._http.post(COMPLETIONS, body))["choices"]
        (row,) = choice["logprobs"]["top_logprobs"]
        return [
            sum_if_sound([value], [token], [token]) if (value := row.get(f"token_id:{token}")) is not None else None
            for token in tokens
        ]

    async def prepare_scores(self, prefix: Sequence[int], token_ids: Sequence[int]) -> str:
        expected = await self._score_whole(prefix, token_ids)
        try:
            got = [await self._score_rows(prefix, token_ids, reads_cache=cached) for cached in (False, True)]
        except InvalidRequestError as error:  # no such path, or a model runner that cannot
            log.info("this server cannot score rows; it reads the whole prompt of each score", reason=str(error))
            return "completions"
        values = [value for value in got if value is not None]  # with the cache there may be no answer
        allowed = SAME_SCORE * len(token_ids)
        self._has_rows = (
            expected is not None and got[0] is not None and all(abs(value - expected) <= allowed for value in values)
        )
        if not self._has_rows:
            log.warning("this server scores wrongly by rows; they are not used", got=got, expected=expected)
        return "generate" if self._has_rows else "completions"

    async def _score_whole(self, prefix: Sequence[int], token_ids: Sequence[int]) -> float | None:
        """Read the log-probabilities of the whole prompt; vLLM must write a token."""
        body = {
            "model": self.description.model,
            "prompt": [*prefix, *token_ids],
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
            "return_token_ids": True,
        }
        (choice,) = (await self._http.post(COMPLETIONS, body))["choices"]
        rows = choice["prompt_logprobs"][len(prefix) :]
        of = choice["prompt_token_ids"][len(prefix) :]
        return sum_if_sound([_read_row(row, token) for row, token in zip(rows, token_ids, strict=False)], of, token_ids)

    async def _score_rows(self, prefix: Sequence[int], token_ids: Sequence[int], *, reads_cache: bool) -> float | None:
        """Ask for given tokens from the row on that predicts the first of them."""
        sampling = {
            "max_tokens": 1,
            "temperature": 0.0,
            "detokenize": False,
            "prompt_logprob_token_ids": [[token] for token in token_ids],
            "prompt_logprob_start": len(prefix) - 1,
            "skip_reading_prefix_cache": not reads_cache,
        }
        body = {"model": self.description.model, "token_ids": [*prefix, *token_ids], "sampling_params": sampling}
        answer = await self._http.post(GENERATE, body)
        values = _read_array(answer.get("prompt_token_id_logprobs"))
        return sum_if_sound(values, token_ids, token_ids)


async def describe_vllm(http: Http, model: dict[str, Any]) -> ServerDescription:
    """Describe a server by the entry of its model in ``/v1/models``."""
    version = (await http.find("/version") or {}).get("version", "")
    max_length = model["max_model_len"] - 1  # vLLM keeps room for a token to write
    return ServerDescription(RemoteKind.VLLM, version, model["id"], max_length)


def _read_row(row: dict[str, dict[str, float]] | None, token: int) -> float:
    """Return the log-probability of a token in a row of ``prompt_logprobs``; NaN if the row lacks it."""
    found = (row or {}).get(str(token))
    return float("nan") if found is None else found["logprob"]


def _read_array(encoded: str | None) -> list[float]:
    """Return the first column of an array in NumPy's file format, in base64; nothing without an array."""
    if encoded is None:
        return []
    array = np.load(io.BytesIO(base64.b64decode(encoded)), allow_pickle=False)
    return [float(row[0]) for row in array]
