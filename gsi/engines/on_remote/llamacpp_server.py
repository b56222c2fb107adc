"""llama.cpp's ``llama-server``, by its interface ``/completion``: a draft only, because it scores no given tokens.

Source: ``tools/server/README.md`` of llama.cpp. The tokens are read as a stream, which is closed where the step ends:
with a stop string the server reports no probabilities of the last tokens. It sends no token that ends inside a
character of several bytes, and no probability of it: such a step is refused.
"""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from gsi.engines.on_remote.http import Http
from gsi.engines.on_remote.model_server import Draw, Drawn, RemoteKind, ServerDescription
from gsi.errors import InvalidRequestError, MisconfiguredError

SEEDS = 2**32 - 1  # the seed 2**32 - 1 means a random one
NEUTRAL = {
    "samplers": ["temperature", "top_p"],  # in this order: the nucleus is that of the tempered law
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}

IsEnd = Callable[[Sequence[int]], bool]


class LlamacppServer:
    """A server of a draft model."""

    raw_hint = "use a release of llama.cpp that knows post_sampling_probs"

    def __init__(self, http: Http, description: ServerDescription, is_end: IsEnd) -> None:
        self.description = description
        self._http = http
        self._is_end = is_end

    async def tokenize(self, text: str) -> Sequence[int] | None:
        body = {"content": text, "add_special": False, "parse_special": False}
        answer = await self._http.find("/tokenize", body)
        return answer["tokens"] if answer is not None else None

    async def draw(self, prefix: Sequence[int], draw: Draw) -> Drawn:
        body = {
            "prompt": list(prefix),
            "n_predict": draw.max_tokens,
            "temperature": draw.temperature,
            "top_p": draw.top_p,
            **NEUTRAL,
            "seed": draw.seed % SEEDS,
            "n_probs": 1,
            "post_sampling_probs": False,  # of the bare model, at temperature 1
            "cache_prompt": True,
            "return_tokens": True,
            "stream": True,
        }
        token_ids: list[int] = []
        values: list[float] = []
        async with aclosing(self._http.stream("/completion", body)) as events:
            async for event in events:
                for row in event.get("completion_probabilities") or ():
                    token_ids.append(row["id"])
                    values.append(row["logprob"])
                _refuse_missing(event, len(token_ids))
                if token_ids and (token_ids[-1] in draw.stop_token_ids or self._is_end(token_ids)):
                    break
        return Drawn(tuple(token_ids), tuple(values), len(token_ids) >= draw.max_tokens)


async def describe_llamacpp(http: Http, model: dict[str, Any]) -> ServerDescription:
    """Describe a server by the entry of its model in ``/v1/models`` and its own ``/props``."""
    said = await http.find("/props") or {}
    context = (said.get("default_generation_settings") or {}).get("n_ctx")  # of one slot
    if not context:
        raise MisconfiguredError(f"{http.url} does not say its context length; allowed: llama-server with /props")
    size = (model.get("meta") or {}).get("n_params")
    return ServerDescription(RemoteKind.LLAMACPP, str(said.get("build_info", "")), model["id"], context - 1, size)


def _refuse_missing(event: dict[str, Any], num_received: int) -> None:
    """Raise InvalidRequestError if the server has drawn tokens that it did not send."""
    drawn = event.get("tokens_predicted")
    if not event.get("stop") and drawn is not None and drawn > num_received:
        raise InvalidRequestError(
            "llama.cpp's server sends no probability of a token that ends inside a character; allowed: steps whose "
            "characters are whole tokens, or a draft on vLLM or SGLang"
        )
