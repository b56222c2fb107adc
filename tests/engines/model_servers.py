"""Servers of our own that answer as vLLM, SGLang and llama.cpp publish it, over a model whose laws are known exactly.

The model is a table: the logits of the next token depend on the last token alone. A real ``vllm serve`` is asked in
``tests/vllm/test_vllm_remote.py``; the other two are not installed, so their form is that of their documentation.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from gsi.engines.hugging_face.tokenizer import Tokenizer
from tests.conftest import MODELS
from tests.engines.small_server import Answer, Body, SmallServer

MODEL = "a-table"
CONTEXT = 400
EOS = 256


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(str(MODELS / "target"), None)


@cache
def table() -> Any:
    """Logits [token, next token]; the delimiter and the end of sequence are likely enough to be drawn."""
    logits = np.random.default_rng(7).normal(0.0, 2.0, (tokenizer().size, tokenizer().size))
    logits[:, tokenizer().encode("\n\n")[-1]] += 5.0
    logits[:, EOS] += 4.0
    return logits


def log_law(last: int, temperature: float = 1.0) -> Any:
    """Return log softmax(logits / T) of the token behind ``last`` [vocabulary]."""
    row = table()[last] / temperature
    return row - np.logaddexp.reduce(row)


def log_likelihood(prefix: Sequence[int], token_ids: Sequence[int], temperature: float = 1.0) -> float:
    """Return log pi(token_ids | prefix) in nats."""
    read = [*prefix[-1:], *token_ids]
    return float(sum(log_law(last, temperature)[token] for last, token in pairwise(read)))


@dataclass
class TableModel:
    """Draws from the table, and reports log-probabilities before the temperature or behind it."""

    is_raw: bool = True
    is_wrong: bool = False  # reports numbers of another model
    requests: int = field(default=0)

    def draw(self, prefix: Sequence[int], temperature: float, seed: int, limit: int, ends: Sequence[int]) -> list[Any]:
        """Return (token, log-probability) up to the delimiter, an end or the limit."""
        random = np.random.default_rng(seed)
        drawn: list[Any] = []
        last = prefix[-1]
        while len(drawn) < limit:
            law = log_law(last, temperature or 1.0)
            token = int(law.argmax()) if temperature == 0 else int(random.choice(len(law), p=np.exp(law)))
            said = law if temperature and not self.is_raw else log_law(last)
            drawn.append((token, float(said[token])))
            if token in ends or "\n\n" in tokenizer().decode([token for token, _ in drawn]):
                break
            last = token
        return drawn

    def score(self, token_ids: Sequence[int]) -> list[float | None]:
        """Return the log-probability of each token behind the one before it; None for the first."""
        wrong = -3.0 if self.is_wrong else 0.0
        return [None, *(float(log_law(a)[b]) + wrong for a, b in pairwise(token_ids))]


def vllm_server(model: TableModel, *, has_rows: bool = False, rows_cached: bool = False) -> SmallServer:
    """Answer as ``vllm serve``; ``has_rows``: with --enable-scale-out, on vLLM's newer model runner.

    ``rows_cached``: the cache covers the row before the candidate, so that there is no answer from it.
    """

    async def models(_: Body) -> Answer:
        return 200, {"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": CONTEXT + 1, "parent": None}]}

    async def version(_: Body) -> Answer:
        return 200, {"version": "0.32.0"}

    async def complete(body: Body) -> Answer:
        if body["temperature"] > 2:
            return 400, {"error": {"message": "temperature must be in [0, 2]", "code": 400}}
        if "prompt_logprobs" in body:
            values = model.score(body["prompt"])
            rows = [
                None if value is None else {str(token): {"logprob": value, "rank": 1}}
                for token, value in zip(body["prompt"], values, strict=True)
            ]
            choice = {"prompt_logprobs": rows, "prompt_token_ids": body["prompt"]}
            return 200, {"choices": [choice]}
        if "logprob_token_ids" in body:
            said = log_law(body["prompt"][-1])
            row = {f"token_id:{token}": float(said[token]) for token in body["logprob_token_ids"]}
            return 200, {"choices": [{"logprobs": {"top_logprobs": [row]}}]}
        drawn = model.draw(
            body["prompt"], body["temperature"], body["seed"], body["max_tokens"], body["stop_token_ids"]
        )
        choice = {
            "token_ids": [token for token, _ in drawn],
            "logprobs": {"token_logprobs": [value for _, value in drawn]},
            "finish_reason": "length" if len(drawn) == body["max_tokens"] else "stop",
        }
        return 200, {"choices": [choice]}

    async def generate(body: Body) -> Answer:
        wanted = body["sampling_params"]
        start = wanted["prompt_logprob_start"]
        values = model.score(body["token_ids"])[start + 1 :]
        if rows_cached and not wanted["skip_reading_prefix_cache"]:
            return 200, {"prompt_token_id_logprobs": None}
        file = io.BytesIO()
        np.save(file, np.array([[value] for value in values], dtype=np.float32))
        return 200, {"prompt_token_id_logprobs": base64.b64encode(file.getvalue()).decode()}

    async def refuse(_: Body) -> Answer:
        return 403, {"error": {"message": "Scale-out endpoints are disabled.", "code": 403}}

    routes = {"/v1/models": models, "/version": version, "/v1/completions": complete, "/tokenize": _tokenize("prompt")}
    return SmallServer(routes | {"/inference/v1/generate": generate if has_rows else refuse})


def sglang_server(model: TableModel) -> SmallServer:
    """Answer as SGLang's documentation describes it."""

    async def models(_: Body) -> Answer:
        return 200, {"data": [{"id": MODEL, "owned_by": "sglang", "max_model_len": CONTEXT + 8}]}

    async def generate(body: Body) -> Answer:
        wanted = body["sampling_params"]
        said: Body = {"finish_reason": {"type": "length"}}
        if "logprob_start_len" in body:
            start = body["logprob_start_len"]
            values = model.score(body["input_ids"])
            rows = zip(values, body["input_ids"], strict=True)
            said["input_token_logprobs"] = [[value, token, None] for value, token in list(rows)[start:]]
            said["input_token_logprobs"][0][0] = None
            return 200, {"meta_info": said}
        drawn = model.draw(
            body["input_ids"],
            wanted["temperature"],
            wanted["sampling_seed"],
            wanted["max_new_tokens"],
            wanted["stop_token_ids"],
        )
        said["output_token_logprobs"] = [[value, token, None] for token, value in drawn]
        said["finish_reason"] = {"type": "length" if len(drawn) == wanted["max_new_tokens"] else "stop"}
        return 200, {"meta_info": said}

    return SmallServer({"/v1/models": models, "/generate": generate})


def llamacpp_server(model: TableModel, *, skipped_token: int | None = None) -> SmallServer:
    """Answer as llama.cpp's ``llama-server`` documents it; ``skipped_token`` is part of a character, and never sent."""

    async def models(_: Body) -> Answer:
        return 200, {"data": [{"id": MODEL, "owned_by": "llamacpp", "meta": {"n_params": 1234}}]}

    async def props(_: Body) -> Answer:
        return 200, {"default_generation_settings": {"n_ctx": CONTEXT + 1}, "build_info": "b6000"}

    async def complete(body: Body) -> Answer:
        drawn = model.draw(body["prompt"], body["temperature"], body["seed"], body["n_predict"], (EOS,))
        drawn += [(5, -1.0)] * (body["n_predict"] > len(drawn))  # a server that knows no delimiter draws on
        events: list[Body] = []
        for number, (token, value) in enumerate(drawn, 1):
            if token != skipped_token:
                rows = [{"id": token, "logprob": value, "top_logprobs": []}]
                events.append({"tokens": [token], "completion_probabilities": rows, "tokens_predicted": number})
        return 200, [*events, {"tokens": [], "stop": True, "tokens_predicted": len(drawn)}]

    routes = {"/v1/models": models, "/props": props, "/completion": complete, "/tokenize": _tokenize("content")}
    return SmallServer(routes)


def _tokenize(name: str) -> Any:
    async def tokenize(body: Body) -> Answer:
        return 200, {"tokens": list(tokenizer().encode(body[name]))}

    return tokenize
