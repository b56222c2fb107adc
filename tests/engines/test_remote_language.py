"""A language engine over HTTP: the numbers of three kinds of servers, and what none of them can report."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gsi.algorithm.candidates import FinishReason
from gsi.algorithm.judging import JudgePrompt
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.on_remote.language import RemoteEngine
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines import model_servers
from tests.engines.contract import batches
from tests.engines.model_servers import (
    EOS,
    TableModel,
    llamacpp_server,
    log_likelihood,
    sglang_server,
    tokenizer,
    vllm_server,
)
from tests.engines.small_server import SmallServer

PREFIX = (10, 20, 30)
SERVERS = {
    "vllm": vllm_server,
    "vllm with rows": lambda model: vllm_server(model, has_rows=True),
    "vllm with cached rows": lambda model: vllm_server(model, has_rows=True, rows_cached=True),
    "sglang": sglang_server,
}


def make_settings(server: SmallServer, **other: Any) -> EngineSettings:
    wanted = {"likelihood": Likelihood.MODEL, "remote_url": server.url, "remote_wait_seconds": 5.0, **other}
    return EngineSettings(str(MODELS / "target"), **wanted)


@asynccontextmanager
async def engine_on(server: SmallServer, **other: Any) -> AsyncIterator[RemoteEngine]:
    async with server.listen():
        engine = await RemoteEngine.load(make_settings(server, **other))
        try:
            yield engine
        finally:
            await engine.http.wait_closed()


async def propose(engine: RemoteEngine, n: int, sampling: SamplingParams, seed: int = 3) -> list[Any]:
    found = [candidate async for batch in engine.propose(PREFIX, n, sampling, seed) for candidate in batch]
    return sorted(found, key=lambda candidate: candidate.index)


async def score(engine: RemoteEngine, rows: list[tuple[int, ...]], sampling: SamplingParams) -> list[float]:
    given = [ReceivedTokens(index, row) for index, row in enumerate(rows)]
    found = {s.index: s.value async for batch in engine.score(PREFIX, sampling, batches(given)) for s in batch}
    return [found[index] for index in range(len(rows))]


@pytest.mark.parametrize("name", SERVERS)
async def test_likelihoods_are_those_of_the_model(name: str) -> None:
    """Drawn at any temperature, a candidate has the likelihood of the bare model, as drawn and as scored."""
    hot = SamplingParams(temperature=1.7, likelihood=Likelihood.MODEL)
    async with engine_on(SERVERS[name](TableModel())) as engine:
        assert (engine.info.likelihoods, engine.info.temperature) == ((Likelihood.MODEL,), None)
        candidates = await propose(engine, 12, hot)
        rows = [candidate.token_ids for candidate in candidates]
        expected = [log_likelihood(PREFIX, row) for row in rows]
        assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=1e-5)
        assert await score(engine, rows, hot) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SERVERS)
async def test_at_temperature_1_sampling_is_the_model(name: str) -> None:
    """So a server that reports log-probabilities behind the temperature will do."""
    server = SERVERS[name](TableModel(is_raw=False))
    async with engine_on(server, likelihood=Likelihood.SAMPLING, temperature=1.0) as engine:
        assert (engine.info.likelihoods, engine.info.temperature) == ((Likelihood.SAMPLING,), 1.0)
        sampling = SamplingParams(temperature=1.0)
        candidates = await propose(engine, 6, sampling)
        expected = [log_likelihood(PREFIX, candidate.token_ids) for candidate in candidates]
        assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=1e-5)
        (greedy,) = await propose(engine, 1, SamplingParams(temperature=0.0))
        assert greedy.log_likelihood == 0.0


@pytest.mark.parametrize("name", SERVERS)
async def test_numbers_of_two_laws_are_refused(name: str) -> None:
    """Likelihood "model" from a server that reports drawn tokens behind the temperature would be wrong by nats."""
    with pytest.raises(MisconfiguredError, match=r"of one law; allowed: start it with .*or likelihood sampling with"):
        async with engine_on(SERVERS[name](TableModel(is_raw=False))):
            pass


@pytest.mark.parametrize("name", SERVERS)
async def test_a_judgement_is_the_softmax_over_the_labels(name: str) -> None:
    """Behind the question that the engine writes; vLLM is asked once, SGLang once for each label."""
    question = JudgePrompt.VERDICT.question
    server = SERVERS[name](TableModel())
    async with engine_on(server) as engine:
        assert engine.info.can_judge
        before = len(server.asked)
        found = await engine.judge(PREFIX, question)
        assert len(server.asked) - before == (2 if name == "sglang" else 1)
    (_, body), labels = server.asked[-1], [tokenizer().encode(label)[0] for label in question.labels]
    asked = body["prompt"] if "prompt" in body else body["input_ids"][:-1]
    assert tokenizer().decode(asked[len(PREFIX) :]).endswith(f"assistant\n{question.opening}")
    weights = [math.exp(log_likelihood(asked, (label,))) for label in labels]
    assert found.values == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-6)
    assert found.num_tokens == len(asked) - len(PREFIX)


async def test_a_server_that_scores_nothing_judges_nothing() -> None:
    """llama.cpp's; its description says so, and a coordinator asks it for nothing."""
    async with engine_on(llamacpp_server(TableModel())) as engine:
        assert not engine.info.can_judge
        with pytest.raises(InvalidRequestError, match="scores no given tokens, and so judges nothing"):
            await engine.judge(PREFIX, JudgePrompt.VERDICT.question)


async def test_a_server_that_leaves_out_a_label_is_at_fault() -> None:
    """A vLLM that does not know the parameter reports the likeliest tokens instead."""
    server = vllm_server(TableModel())
    async with engine_on(server) as engine:

        async def forgetful(_: Any) -> Any:
            return 200, {"choices": [{"logprobs": {"top_logprobs": [{"token_id:5": -0.1}]}}]}

        server.routes["/v1/completions"] = forgetful
        with pytest.raises(InternalError, match="of other tokens"):
            await engine.judge(PREFIX, JudgePrompt.VERDICT.question)


async def test_a_temperature_that_no_server_scores_at_is_refused() -> None:
    """The default of a service, sampling at 0.7, needs an engine that is not remote."""
    wanted = r"likelihood: sampling at temperature 0.7 .*allowed: likelihood model, or sampling with temperature 1"
    with pytest.raises(MisconfiguredError, match=wanted):
        await RemoteEngine.load(EngineSettings(str(MODELS / "target"), remote_url="http://127.0.0.1:1"))


async def test_a_server_that_scores_another_model_is_refused() -> None:
    """One proposal is scored again at the start, and must agree."""
    with pytest.raises(MisconfiguredError, match=r"as drawn and .* as scored; the two must be of one law"):
        async with engine_on(vllm_server(TableModel(is_wrong=True))):
            pass


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {"text": "hello"}), r"remote_kind: .* answers in another form than a server of its kind \(KeyError"),
        ((200, {"choices": 3}), r"remote_kind: .* answers in another form"),
        ((500, {"error": "out of memory"}), r"remote_url: .* answers 500: out of memory; .*look at its log"),
    ],
)
async def test_a_server_that_fails_at_the_start_is_one_sentence(answer: Any, words: str) -> None:
    """It may be of another kind than it says, or of a release that answers otherwise."""
    server = vllm_server(TableModel())

    async def complete(_: Any) -> Any:
        return answer

    server.routes["/v1/completions"] = complete
    with pytest.raises(MisconfiguredError, match=words):
        async with engine_on(server):
            pass


async def test_another_tokenizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token ids of one model are no token ids of another."""
    server = vllm_server(TableModel())

    async def tokenize(_: Any) -> Any:
        return 200, {"tokens": [1, 2, 3]}

    server.routes["/tokenize"] = tokenize
    with pytest.raises(MisconfiguredError, match="model: its tokenizer reads a text as"):
        async with engine_on(server):
            pass


async def test_rows_are_asked_for_from_the_candidate_on() -> None:
    """Where the cache covers the row before the candidate, the request is sent again without the cache."""
    server = vllm_server(TableModel(), has_rows=True, rows_cached=True)
    async with engine_on(server) as engine:
        server.asked.clear()
        await score(engine, [(5, 6)], SamplingParams(likelihood=Likelihood.MODEL))
    asked = [body["sampling_params"] for body in server.bodies("/inference/v1/generate")]
    assert [params["skip_reading_prefix_cache"] for params in asked] == [False, True]
    assert {params["prompt_logprob_start"] for params in asked} == {len(PREFIX) - 1}
    assert asked[0]["prompt_logprob_token_ids"] == [[5], [6]]


async def test_sglang_is_asked_for_rows_one_before_the_candidate() -> None:
    """The first row has no number, because nothing before it was read."""
    server = sglang_server(TableModel())
    async with engine_on(server) as engine:
        server.asked.clear()
        await score(engine, [(5, 6)], SamplingParams(likelihood=Likelihood.MODEL))
    (body,) = server.bodies("/generate")
    assert (body["input_ids"], body["logprob_start_len"]) == ([*PREFIX, 5, 6], len(PREFIX) - 1)


async def test_the_checkpoint_s_own_sampling_defaults_are_overridden() -> None:
    """A server takes top_k and penalties from generation_config.json, which would draw from another law."""
    server = vllm_server(TableModel())
    async with engine_on(server) as engine:
        server.asked.clear()
        await propose(engine, 1, SamplingParams(temperature=0.9, top_p=0.8, likelihood=Likelihood.MODEL))
    (body,) = server.bodies("/v1/completions")
    assert (body["temperature"], body["top_p"]) == (0.9, 0.8)
    assert {name: body[name] for name in ("top_k", "min_p", "repetition_penalty")} == {
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }


@pytest.mark.parametrize("make", [vllm_server, sglang_server, llamacpp_server])
async def test_a_step_ends_with_the_delimiter_the_end_or_the_limit(make: Any) -> None:
    """What a server draws beyond the delimiter is dropped."""
    async with engine_on(make(TableModel())) as engine:
        candidates = await propose(engine, 32, SamplingParams(likelihood=Likelihood.MODEL, max_step_tokens=12))
        delimiter = tokenizer().encode("\n\n")[-1]
        for candidate in candidates:
            last = {FinishReason.DELIMITER: delimiter, FinishReason.EOS: EOS}.get(candidate.finish_reason)
            assert last is None or candidate.token_ids[-1] == last
            assert candidate.finish_reason is not FinishReason.LENGTH or len(candidate.token_ids) == 12
            assert candidate.log_likelihood == pytest.approx(log_likelihood(PREFIX, candidate.token_ids), abs=1e-5)
        assert {candidate.finish_reason for candidate in candidates} >= {FinishReason.DELIMITER, FinishReason.EOS}


async def test_llamacpp_can_be_a_draft() -> None:
    """It draws, with likelihoods of the bare model, and scores nothing."""
    async with engine_on(llamacpp_server(TableModel()), role="draft") as engine:
        assert engine.info.engine_version == f"llamacpp b6000, {model_servers.MODEL}"
        assert engine.info.num_parameters == 1234
        with pytest.raises(InvalidRequestError, match="scores no given tokens"):
            await score(engine, [(5,)], SamplingParams(likelihood=Likelihood.MODEL))


async def test_llamacpp_cannot_be_a_target() -> None:
    """It reports no log-probabilities of given tokens."""
    with pytest.raises(MisconfiguredError, match=r"scores no given tokens; allowed for a target: vllm, sglang"):
        async with engine_on(llamacpp_server(TableModel()), role="target"):
            pass


async def test_a_llamacpp_that_reports_behind_the_temperature_is_refused() -> None:
    """The same first tokens have other numbers at temperature 2 than at 1."""
    with pytest.raises(MisconfiguredError, match="depend on the temperature"):
        async with engine_on(llamacpp_server(TableModel(is_raw=False))):
            pass


async def test_a_token_without_a_probability_is_refused() -> None:
    """llama.cpp sends no token that ends inside a character; its likelihood would be missing from the sum."""
    delimiter = tokenizer().encode("\n\n")[-1]
    server = llamacpp_server(TableModel())
    async with engine_on(server) as engine:
        broken = llamacpp_server(TableModel(), skipped_token=delimiter)
        server.routes["/completion"] = broken.routes["/completion"]
        with pytest.raises(InvalidRequestError, match="no probability of a token that ends inside a character"):
            await propose(engine, 8, SamplingParams(likelihood=Likelihood.MODEL, max_step_tokens=40))


async def test_what_a_server_refuses_is_an_error_of_the_request() -> None:
    """vLLM allows temperatures up to 2; the error has its words."""
    async with engine_on(vllm_server(TableModel())) as engine:
        with pytest.raises(InvalidRequestError, match=r"refuses the request: temperature must be in \[0, 2\]"):
            await propose(engine, 1, SamplingParams(temperature=2.5, likelihood=Likelihood.MODEL))


async def test_engine_arguments_belong_to_the_server() -> None:
    """They would have no effect here."""
    with pytest.raises(MisconfiguredError, match=r"engine_args: .*allowed: none with engine remote"):
        await RemoteEngine.load(EngineSettings(str(MODELS / "target"), engine_args="--max-num-seqs 2"))


@dataclass
class WideModel(TableModel):
    """Writes an id that the tokenizer does not have in the first so many draws, once told to."""

    num_wide: int = 0

    def draw(self, prefix: Sequence[int], temperature: float, seed: int, limit: int, ends: Sequence[int]) -> list[Any]:
        drawn = super().draw(prefix, temperature, seed, limit, ends)
        self.num_wide -= 1
        return drawn if self.num_wide < 0 else [(tokenizer().num_ids, -9.0), *drawn[1:]]


async def test_a_candidate_with_an_id_beyond_the_tokenizer_is_drawn_again() -> None:
    """No other model would take it; a server that always writes such ids has another tokenizer."""
    model = WideModel()
    async with engine_on(vllm_server(model)) as engine:
        model.num_wide = 2
        (candidate,) = await propose(engine, 1, SamplingParams(likelihood=Likelihood.MODEL))
        assert max(candidate.token_ids) < tokenizer().num_ids
        assert candidate.log_likelihood == pytest.approx(log_likelihood(PREFIX, candidate.token_ids), abs=1e-5)
        model.num_wide = 100
        with pytest.raises(InternalError, match="4 times in turn"):
            await propose(engine, 1, SamplingParams(likelihood=Likelihood.MODEL))
