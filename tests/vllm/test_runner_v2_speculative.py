"""Speculative decoding on vLLM's model runner V2, the one of GPUs: the law stays the target's."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import torch
from prometheus_client import REGISTRY

from gsi.algorithm.candidates import FinishReason
from gsi.algorithm.params import SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.language import VllmEngine
from gsi.engines.registry import LANGUAGE_ENGINES
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, TOLERANCE, law, propose_all, reference, reference_log_likelihood, score_all
from tests.vllm.runner_v2 import model_runner_v2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),  # an engine starts
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    speculative = (
        f'{{"method": "draft_model", "model": "{MODELS / "draft"}", "num_speculative_tokens": 3, "max_model_len": 512}}'
    )
    settings = EngineSettings(
        str(MODELS / "target"),
        num_threads=1,
        engine_args=f"--max-num-seqs 8 --speculative-config '{speculative}'",
    )
    with model_runner_v2():
        engine: Any = await LANGUAGE_ENGINES.load("vllm", settings)
        assert engine.core.config.use_v2_model_runner
        yield engine
        engine.close()


async def test_likelihoods_are_the_target_s_own(engine: VllmEngine) -> None:
    """Samples and scores have the likelihoods of a plain forward pass of the target, up to the step's delimiter."""
    candidates = await propose_all(engine, 6, law(engine))
    prefix = engine.render(MESSAGES)
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=TOLERANCE)
    assert await score_all(engine, candidates, law(engine)) == pytest.approx(expected, abs=TOLERANCE)
    for candidate in candidates:
        assert candidate.text.count("\n\n") == (candidate.finish_reason is FinishReason.DELIMITER)


async def test_greedy_is_the_target_s_argmax(engine: VllmEngine) -> None:
    """A drafted token is kept only where the target would have written it; some were, and some were not."""
    prefix, (model, _) = engine.render(MESSAGES), reference("target")
    (candidate,) = await propose_all(engine, 1, SamplingParams(temperature=0.0))
    with torch.inference_mode():
        logits = model(torch.tensor([[*prefix, *candidate.token_ids]])).logits[0, len(prefix) - 1 : -1]
    assert list(candidate.token_ids) == logits.argmax(dim=-1).tolist()
    drafted, accepted = (
        sum(s.value for family in REGISTRY.collect() for s in family.samples if s.name == name)
        for name in ("vllm:spec_decode_num_draft_tokens_total", "vllm:spec_decode_num_accepted_tokens_total")
    )
    assert 0 < accepted < drafted
