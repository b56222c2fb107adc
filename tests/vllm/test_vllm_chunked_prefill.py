"""Scoring while prompts are read in chunks of 64 tokens: a candidate's rows may come from several engine steps.

vLLM reads in chunks on GPUs. On a CPU our services turn chunks off because of seeded sampling; scoring may use them.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings, strategies

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.language import VllmEngine
from gsi.engines.on_vllm.suffix_scoring import ScoringPath
from gsi.engines.registry import LANGUAGE_ENGINES
from tests.conftest import MODELS
from tests.engines.contract import check_scores, law, reference_log_likelihood, score_all, scoring_requests

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    chunks = "--enable-chunked-prefill --max-num-batched-tokens 64 --max-num-seqs 16"
    engine: Any = await LANGUAGE_ENGINES.load(
        "vllm", EngineSettings(str(MODELS / "target"), num_threads=1, engine_args=chunks)
    )
    assert engine.scorer.path is ScoringPath.SUFFIX
    yield engine
    engine.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.data())
async def test_a_score_is_that_of_a_plain_forward_pass_whatever_the_chunks(
    engine: VllmEngine, data: strategies.DataObject
) -> None:
    """This holds for all contexts and candidates, scored once or twice."""
    prefix, candidates = data.draw(scoring_requests(engine.info.vocabulary_size))
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    for _ in range(data.draw(strategies.integers(1, 2))):
        check_scores(await score_all(engine, candidates, law(engine), prefix), expected, candidates)
