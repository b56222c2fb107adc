"""A reward model over HTTP: which outputs of ``/pooling`` are read, and which servers are refused at the start.

The small server gives a row for every token, for every mark, or one row, as vLLM does by the class of the model; a real
``vllm serve --runner pooling`` is asked in ``tests/vllm/test_vllm_remote.py``.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from gsi.engines.base import EngineSettings
from gsi.engines.on_remote.reward import RemoteRewardEngine
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.rpc.convert import ReceivedText
from tests.conftest import MODELS
from tests.engines.contract import RewardEngineContract, rate_all, reference
from tests.engines.model_servers import CONTEXT as TABLE_CONTEXT
from tests.engines.model_servers import TableModel, log_law, tokenizer, vllm_server
from tests.engines.small_server import Answer, Body, SmallServer

CANDIDATES = [
    ReceivedText(0, "Tom has 3.\n\n"),
    ReceivedText(1, "Mia has 4, or \\boxed{4}"),
    ReceivedText(2, "No.\n\n"),
]
CONTEXT = 200
SIGNS = """
description = "a language model that answers + or -"
source = "this test"
[conversation]
form = "template"
[steps]
mark = ":"
[output]
read = "tokens"
good_tokens = ["+"]
bad_tokens = ["-"]
reward = "softmax"
"""

Rows = Callable[[list[int]], Any]


def output(token_ids: list[int], end: int) -> list[float]:
    """Return two numbers that depend on every token up to a place: what a causal reward model gives there."""
    value = sum((place + 1) * token for place, token in enumerate(token_ids[: end + 1])) % 997 / 300 - 1.5
    return [-value, value]


def every_token(token_ids: list[int]) -> list[list[float]]:
    return [output(token_ids, end) for end in range(len(token_ids))]


def every_mark(token_ids: list[int]) -> list[list[float]]:
    mark = tokenizer().token_id("<extra_0>")
    return [output(token_ids, end) for end, token in enumerate(token_ids) if token == mark]


def last_token(token_ids: list[int]) -> list[float]:
    return output(token_ids, len(token_ids) - 1)


def activate(rows: Any) -> Any:
    """Return softmax over the last dimension."""
    if isinstance(rows[0], list):
        return [activate(row) for row in rows]
    powers = [math.exp(value) for value in rows]
    return [power / sum(powers) for power in powers]


def prm_server(rows: Rows, *, heeds_activation: bool = True, context: int = CONTEXT) -> SmallServer:
    async def models(_: Body) -> Answer:
        return 200, {"data": [{"id": "prm", "owned_by": "vllm", "max_model_len": context}]}

    async def pool(body: Body) -> Answer:
        found = rows(body["input"])
        is_activated = body["use_activation"] or not heeds_activation
        return 200, {"data": [{"index": 0, "data": activate(found) if is_activated else found}]}

    return SmallServer({"/v1/models": models, "/pooling": pool})


@asynccontextmanager
async def engine_on(server: SmallServer) -> AsyncIterator[RemoteRewardEngine]:
    async with server.listen():
        engine = await RemoteRewardEngine.load(EngineSettings(str(MODELS / "prm"), remote_url=server.url))
        try:
            yield engine
        finally:
            await engine.http.wait_closed()


def shipped_model(token_ids: list[int]) -> list[list[float]]:
    """Return the raw outputs of the shipped PRM at every token."""
    model, _ = reference("prm")
    with torch.inference_mode():
        rows: list[list[float]] = model(torch.tensor([token_ids])).logits[0].tolist()
    return rows


class TestRemoteRewardEngine(RewardEngineContract):
    """The shared contract, with the shipped PRM behind a server of our own."""

    @pytest.fixture
    async def engine(self) -> AsyncIterator[RemoteRewardEngine]:
        async with engine_on(prm_server(shipped_model, context=512)) as engine:
            yield engine


@pytest.mark.parametrize("rows", [every_token, every_mark, last_token])
async def test_a_reward_is_read_at_the_last_mark(rows: Rows) -> None:
    """It is the softmax of the raw outputs there, whichever rows the server gives."""
    server = prm_server(rows)
    async with engine_on(server) as engine:
        server.asked.clear()
        rewards = await rate_all(engine, CANDIDATES)
        asked = [body["input"] for body in server.bodies("/pooling")]
        expected = sorted(1 / (1 + math.exp(bad - good)) for bad, good in map(last_token, asked))
        assert sorted(rewards) == pytest.approx(expected)
        assert {token_ids[-1] for token_ids in asked} == {tokenizer().token_id("<extra_0>")}
        assert (engine.info.has_bounded_rewards, engine.info.max_length) == (True, CONTEXT)


async def test_equal_candidates_are_rated_once() -> None:
    """A small draft repeats itself."""
    server = prm_server(every_token)
    async with engine_on(server) as engine:
        server.asked.clear()
        rewards = await rate_all(engine, [ReceivedText(index, "Again.\n\n") for index in range(5)])
        assert (len(set(rewards)), len(server.asked)) == (1, 1)


async def test_a_trajectory_beyond_the_server_s_context_is_refused() -> None:
    """Before it is sent."""
    async with engine_on(prm_server(every_token)) as engine:
        with pytest.raises(InvalidRequestError, match=f"allowed: at most {CONTEXT}, its context"):
            await rate_all(engine, [ReceivedText(0, "7" * 300)])


async def test_a_server_of_another_model_is_refused() -> None:
    """An embedding, for one, has more outputs than two labels."""
    with pytest.raises(MisconfiguredError, match=r"the server gives 5 outputs a token .*allowed: the reward model"):
        async with engine_on(prm_server(lambda token_ids: [[0.1] * 5 for _ in token_ids])):
            pass


async def test_a_server_that_knows_another_mark_is_refused() -> None:
    """vLLM gives rows at the mark of Qwen's vocabulary; a PRM with another vocabulary has its mark elsewhere."""
    with pytest.raises(MisconfiguredError, match=r"no outputs at the end of a step; allowed: vllm serve .*ALL"):
        async with engine_on(prm_server(lambda _: [])):
            pass


async def test_a_server_that_always_activates_is_refused() -> None:
    """Its probabilities would be read as raw outputs, and every reward would lie between 0.27 and 0.73."""
    with pytest.raises(MisconfiguredError, match=r"the same outputs with and without its activation"):
        async with engine_on(prm_server(every_token, heeds_activation=False)):
            pass


async def test_a_prm_is_asked_of_vllm_alone() -> None:
    """The other servers pool by conventions that were not tried."""

    async def models(_: Body) -> Answer:
        return 200, {"data": [{"id": "prm", "owned_by": "sglang", "max_model_len": CONTEXT}]}

    with pytest.raises(MisconfiguredError, match=r"remote_kind: .* is sglang; allowed for a PRM: vllm"):
        async with engine_on(SmallServer({"/v1/models": models})):
            pass


async def test_a_model_of_no_known_family_is_refused() -> None:
    """A language model's config.json, for one: nothing says which output is a reward."""
    with pytest.raises(MisconfiguredError, match=r"is a Qwen2ForCausalLM; allowed with engine remote: .*Qwen2ForProc"):
        await RemoteRewardEngine.load(EngineSettings(str(MODELS / "draft"), remote_url="http://127.0.0.1:1"))


async def test_a_language_model_rates_by_the_tokens_that_it_may_answer_with(tmp_path: Path) -> None:
    """Behind a plain ``vllm serve``: the reward is p(+) / (p(+) + p(-)) behind the mark, over the server's scores."""
    (tmp_path / "signs.toml").write_text(SIGNS)
    async with vllm_server(TableModel()).listen() as server:
        settings = EngineSettings(str(MODELS / "draft"), profile=str(tmp_path / "signs.toml"), remote_url=server.url)
        engine = await RemoteRewardEngine.load(settings)
        rewards = await rate_all(engine, CANDIDATES)
        await engine.http.wait_closed()
    law = log_law(tokenizer().encode("a:")[-1])
    (good,), (bad,) = tokenizer().encode("+"), tokenizer().encode("-")
    assert rewards == pytest.approx([1 / (1 + math.exp(law[bad] - law[good]))] * len(CANDIDATES))
    assert (engine.info.has_bounded_rewards, engine.info.max_length) == (True, TABLE_CONTEXT - 1)
