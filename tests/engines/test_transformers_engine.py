"""The transformers engine keeps the contract, and stops when nobody reads its candidates."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import aclosing

import pytest
import torch
from prometheus_client import REGISTRY
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from gsi.algorithm.candidates import FinishReason, Message
from gsi.algorithm.judging import JudgePrompt
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import EngineSettings, LanguageEngine
from gsi.engines.on_transformers.passes import Part, Passes
from gsi.engines.on_transformers.prefix_model import PrefixModel
from gsi.engines.on_transformers.proposal import SamplingBatch
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import (
    MESSAGES,
    TOLERANCE,
    LanguageEngineContract,
    propose_all,
    reference_log_likelihood,
    score_all,
)


@pytest.fixture(scope="module")
def engine() -> Iterator[LanguageEngine]:
    settings = EngineSettings(str(MODELS / "target"), num_threads=1)
    engine = asyncio.run(LANGUAGE_ENGINES.load("transformers", settings))
    yield engine
    engine.close()


class TestTransformersEngine(LanguageEngineContract):
    """The shared contract."""


@pytest.fixture(scope="module")
def exact_engine() -> Iterator[LanguageEngine]:
    """An engine whose passes serve one request, and which keeps no prefix."""
    settings = EngineSettings(str(MODELS / "target"), num_threads=1, batching=False, prefix_cache_bytes=0)
    engine = asyncio.run(LANGUAGE_ENGINES.load("transformers", settings))
    yield engine
    engine.close()


async def test_without_batching_the_same_seed_gives_the_same_candidates_to_the_last_bit(
    exact_engine: LanguageEngine,
) -> None:
    """A forward pass holds the candidates of one proposal, whatever else the engine is asked."""
    proposals = (propose_all(exact_engine, 8, SamplingParams(), seed) for seed in (7, 7, 8))
    once, again, _ = await asyncio.gather(*proposals)
    assert once == again


async def test_a_judge_reads_what_a_step_adds_and_leaves_it_to_the_next_step(engine: LanguageEngine) -> None:
    """Of a step that is judged the prefix has been read; the step behind it finds all but the question."""

    def count_hits() -> float:
        return REGISTRY.get_sample_value("gsi_prefix_cache_hits_total") or 0.0

    prefix = (*engine.render(MESSAGES), 7, 8, 9)
    step = (*prefix, *range(5, 25))
    async for _ in engine.propose(prefix, 1, SamplingParams(max_step_tokens=1), 1):
        pass
    for asked, hits in ((step, len(prefix)), (step, len(step))):
        before = count_hits()
        await engine.judge(asked, JudgePrompt.SCORE.question)
        assert count_hits() - before == hits
    before = count_hits()
    async for _ in engine.propose(step, 1, SamplingParams(max_step_tokens=1), 1):
        pass
    assert count_hits() - before == len(step)


@pytest.mark.parametrize("likelihood", list(Likelihood))
async def test_likelihoods_of_a_nucleus_are_those_of_a_plain_forward_pass(
    engine: LanguageEngine, likelihood: Likelihood
) -> None:
    """With top_p below 1 a likelihood is taken under the nucleus's own law; the bare model's does not change."""
    sampling = SamplingParams(temperature=1.3, top_p=0.8, likelihood=likelihood)
    candidates = await propose_all(engine, 8, sampling)
    prefix = engine.render(MESSAGES)
    expected = [reference_log_likelihood(prefix, candidate.token_ids, sampling) for candidate in candidates]
    assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=TOLERANCE)
    assert await score_all(engine, candidates, sampling) == pytest.approx(expected, abs=TOLERANCE)


async def test_a_token_outside_the_nucleus_has_likelihood_zero(engine: LanguageEngine) -> None:
    """A token that would never be sampled has -inf, not a small number."""
    tight = SamplingParams(temperature=0.5, top_p=0.5)
    unlikely = [ReceivedTokens(0, engine.render((Message("user", "Work"),))[-3:])]
    assert await score_all(engine, unlikely, tight) == [-math.inf]


async def test_a_proposal_that_is_closed_writes_no_further_token(
    engine: LanguageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling costs no more than the token in flight."""
    num_passes = 0
    run = Passes.run

    def run_and_count(passes: Passes, parts: Sequence[Part]) -> None:
        nonlocal num_passes
        num_passes += 1
        run(passes, parts)

    monkeypatch.setattr(Passes, "run", run_and_count)
    sampling = SamplingParams(temperature=5.0, max_step_tokens=200)
    async with aclosing(engine.propose(engine.render(MESSAGES), 64, sampling, 0)) as stream:
        await anext(stream)
        at_first_candidate = num_passes
    await anext(engine.propose(engine.render((Message("user", "7"),)), 1, SamplingParams(max_step_tokens=1), 0))
    assert num_passes <= at_first_candidate + 2  # the token in flight, and the other prompt


async def test_a_sliding_window_is_that_of_a_plain_pass() -> None:
    """The prefix is longer than the window, and each token sees exactly its window."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=8,
    )
    plain = MistralForCausalLM(config).eval()
    model = PrefixModel(plain, 64, EngineSettings("", num_threads=1))
    tokens, rows = list(range(20)), [[21, 22, 23], [24]]
    read = await model.run(model.read(tokens))
    outputs = await model.run(model.continue_rows(read.cache(2), rows))
    with torch.inference_mode():
        for row, output in zip(rows, outputs, strict=True):
            expected = plain(torch.tensor([tokens + row])).logits[0, len(tokens) :]
            torch.testing.assert_close(output[: len(row)], expected, atol=1e-6, rtol=0)
    model.close()


PIECES = {0: "a", 1: "\n", 2: "b\n", 3: ".\n\n", 4: "\n\nc", 5: ""}  # ends of real vocabularies; 5 ends the sequence


def decode(token_ids: Sequence[int]) -> str:
    return "".join(PIECES[token] for token in token_ids)


async def test_a_boundary_is_found_whichever_tokens_write_it() -> None:
    """The token that completes the delimiter ends the step, whether one token writes it or two."""
    config = Qwen2Config(
        vocab_size=6,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    model = PrefixModel(Qwen2ForCausalLM(config), 64, EngineSettings("", num_threads=1))
    batch = SamplingBatch(model, 200, SamplingParams(temperature=5.0), 1, {5}, decode)
    candidates = await model.run(batch.begin([0]))
    while not batch.is_finished:
        candidates += await model.run(batch.go_on())
    model.close()
    reasons = {candidate.finish_reason for candidate in candidates}
    assert {FinishReason.DELIMITER, FinishReason.EOS} <= reasons
    for candidate in candidates:
        before_last = decode(candidate.token_ids[:-1])
        assert "\n\n" not in before_last
        assert ("\n\n" in candidate.text) == (candidate.finish_reason is FinishReason.DELIMITER)
        assert candidate.text == decode(candidate.token_ids)
