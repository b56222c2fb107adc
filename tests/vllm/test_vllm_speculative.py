"""Speculative decoding inside the target: the draft writes tokens ahead, the target verifies them, the law stays."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import torch
from prometheus_client import REGISTRY
from scipy import stats

from gsi.algorithm.candidates import Candidate, FinishReason
from gsi.algorithm.judging import JudgePrompt
from gsi.algorithm.params import SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.language import VllmEngine
from gsi.engines.registry import LANGUAGE_ENGINES
from tests.conftest import MODELS
from tests.engines.contract import (
    MESSAGES,
    TOLERANCE,
    law,
    propose_all,
    reference,
    reference_judgement,
    reference_log_likelihood,
    score_all,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    speculative = (
        f'{{"method": "draft_model", "model": "{MODELS / "draft"}", "num_speculative_tokens": 4, "max_model_len": 512}}'
    )
    engine: Any = await LANGUAGE_ENGINES.load(
        "vllm",
        EngineSettings(str(MODELS / "target"), num_threads=1, engine_args=f"--speculative-config '{speculative}'"),
    )
    yield engine
    engine.close()


async def test_steps_end_at_their_delimiter_though_several_tokens_come_at_once(engine: VllmEngine) -> None:
    """Tokens that vLLM wrote behind the delimiter belong to no step."""
    for candidate in await propose_all(engine, 32, law(engine)):
        if candidate.finish_reason is FinishReason.DELIMITER:
            assert candidate.text.endswith("\n\n")
            assert candidate.text.count("\n\n") == 1
        else:
            assert candidate.token_ids[-1] in engine.info.eos_token_ids


async def test_likelihoods_are_the_target_s_own(engine: VllmEngine) -> None:
    """Samples and scores have the likelihoods of a plain forward pass of the target."""
    candidates = await propose_all(engine, 16, law(engine))
    prefix = engine.render(MESSAGES)
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=TOLERANCE)
    assert await score_all(engine, candidates, law(engine)) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("prompt", JudgePrompt)
async def test_a_judgement_is_that_of_a_plain_forward_pass(engine: VllmEngine, prompt: JudgePrompt) -> None:
    """Behind the prefix and a turn of the user, while the engine decodes speculatively."""
    question, prefix, (_, tokenizer) = prompt.question, engine.render(MESSAGES), reference("target")
    turn = f"<|im_end|>\n<|im_start|>user\n{question.text}<|im_end|>\n<|im_start|>assistant\n{question.opening}"
    expected = reference_judgement([*prefix, *tokenizer.encode(turn)], question)
    writing = asyncio.create_task(propose_all(engine, 8, law(engine)))
    found = await asyncio.gather(*(engine.judge(prefix, question) for _ in range(4)))
    assert len(await writing) == 8
    for one in found:
        assert one.values == pytest.approx(expected, abs=TOLERANCE)


async def test_steps_are_drawn_from_the_target_s_law(engine: VllmEngine) -> None:
    """A chi-square test of 1,024 whole steps against their own probabilities."""
    written = [c for seed in range(4) for c in await propose_all(engine, 256, law(engine), seed)]
    drawn = Counter(candidate.token_ids for candidate in written)
    expected = {candidate.token_ids: len(written) * math.exp(candidate.log_likelihood) for candidate in written}
    common = [token_ids for token_ids, count in expected.items() if count >= 5]
    observed, wanted = [drawn[token_ids] for token_ids in common], [expected[token_ids] for token_ids in common]
    rest = len(written) - sum(observed), len(written) - sum(wanted)
    assert len(common) >= 2
    assert stats.chisquare([*observed, rest[0]], [*wanted, rest[1]]).pvalue > 1e-4


async def test_the_model_says_how_many_tokens_are_written_ahead(engine: VllmEngine) -> None:
    """The number is that of the engine arguments; the parameters are the target's alone."""
    assert engine.info.num_speculative_tokens == 4
    assert engine.info.num_parameters == sum(parameter.numel() for parameter in reference("target")[0].parameters())


async def test_greedy_is_the_target_s_argmax(engine: VllmEngine) -> None:
    """A drafted token is kept only where the target would have written it."""
    greedy = SamplingParams(temperature=0.0)
    prefix, (model, _) = engine.render(MESSAGES), reference("target")
    (candidate,) = await propose_all(engine, 1, greedy)
    logits = model(torch.tensor([[*prefix, *candidate.token_ids]])).logits[0, len(prefix) - 1 : -1]
    assert list(candidate.token_ids) == logits.argmax(dim=-1).tolist()
    assert candidate.log_likelihood == 0.0


async def test_the_draft_s_tokens_were_used(engine: VllmEngine) -> None:
    """By vLLM's own count, some were accepted and some were not."""
    await propose_all(engine, 32, law(engine))
    drafted, accepted = (
        sum(s.value for family in REGISTRY.collect() for s in family.samples if s.name == name)
        for name in ("vllm:spec_decode_num_draft_tokens_total", "vllm:spec_decode_num_accepted_tokens_total")
    )
    assert 0 < accepted < drafted


async def test_scoring_beside_writing_does_not_end_the_engine(engine: VllmEngine) -> None:
    """This holds behind a full block, where an engine without speculation scores first tokens apart.

    vLLM 0.32 ends where a request for the log-probabilities of given tokens meets one that decodes speculatively.
    """
    prefix = (*engine.render(MESSAGES), *range(1, 64))[: 2 * engine.core.block_size]
    candidates = await propose_all(engine, 8, law(engine))

    async def write(seed: int) -> list[Candidate]:
        batches = engine.propose(prefix, 4, law(engine), seed)
        return [candidate async for batch in batches for candidate in batch]

    written = [asyncio.create_task(write(seed)) for seed in range(4)]
    values = [await score_all(engine, candidates, law(engine), prefix) for _ in range(4)]
    assert all(len(found) == 4 for found in await asyncio.gather(*written))
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    for found in values:
        assert found == pytest.approx(expected, abs=10 * TOLERANCE, rel=1e-4)
