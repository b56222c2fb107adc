"""vLLM's model runner V2 under pressure: chunks of 48 tokens, a cache for three jobs, asynchronous scheduling.

vLLM schedules asynchronously on GPUs and not on CPUs, where this module insists on it.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from gsi.algorithm.candidates import Candidate
from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm import core
from gsi.engines.on_vllm.language import VllmEngine
from gsi.engines.on_vllm.suffix_scoring import ScoringPath
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, TOLERANCE, check_scores, law, reference_log_likelihood, score_all
from tests.vllm.runner_v2 import model_runner_v2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),  # an engine starts
]

BLOCK = 32
ENGINE_ARGS = (
    f"--enable-chunked-prefill --max-num-batched-tokens 48 --max-num-seqs 8 --block-size {BLOCK} "
    "--max-model-len 224 --num-gpu-blocks-override 10"
)


def make_asynchronous(settings: EngineSettings, fixed: Any, make: Any = core.make_engine_config) -> Any:
    config = make(settings, fixed)
    config.scheduler_config.async_scheduling = True
    config.scheduler_config.scheduler_cls = f"{core.SCHEDULER_MODULE}.SuffixAsyncScheduler"
    return config


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    settings = EngineSettings(str(MODELS / "target"), num_threads=1, engine_args=ENGINE_ARGS)
    with model_runner_v2(), mock.patch.object(core, "make_engine_config", make_asynchronous):
        engine: Any = await LANGUAGE_ENGINES.load("vllm", settings)
        yield engine
        engine.close()


async def test_the_engine_is_set_so(engine: VllmEngine) -> None:
    """Otherwise this module would test nothing of its own."""
    scheduler = engine.core.config.scheduler_config
    assert scheduler.async_scheduling
    assert scheduler.scheduler_cls.endswith("SuffixAsyncScheduler")
    assert (scheduler.enable_chunked_prefill, scheduler.max_num_batched_tokens) == (True, 48)
    assert engine.core.config.use_v2_model_runner
    assert engine.scorer.path is ScoringPath.NATIVE


@pytest.mark.parametrize("num_prefix", [BLOCK - 1, 3 * BLOCK, 3 * BLOCK + 20])
async def test_a_score_is_right_though_it_is_read_in_chunks(engine: VllmEngine, num_prefix: int) -> None:
    """A candidate's rows come from several engine steps."""
    prefix = (engine.render(MESSAGES) * 3)[:num_prefix]
    rows = [tuple(range(start, start + length)) for start, length in ((20, 1), (30, 60), (30, 48), (99, 5))]
    candidates = [ReceivedTokens(index, row) for index, row in enumerate(rows)]
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    for _ in range(2):
        check_scores(await score_all(engine, candidates, law(engine), prefix), expected, candidates)


async def test_preemption_changes_no_candidate(engine: VllmEngine) -> None:
    """Jobs grow until the cache is full: vLLM drops some and reads them again. Each gets what it gets alone."""
    whole = engine.render(MESSAGES) * 3
    prefixes = [whole[index : index + 2 * BLOCK - 4] for index in range(6)]  # the fifth token needs another block

    async def write(prefix: tuple[int, ...]) -> list[Candidate]:
        batches = engine.propose(prefix, 2, law(engine, max_step_tokens=40), 1)
        return sorted([c async for batch in batches for c in batch], key=lambda candidate: candidate.index)

    before = await count_preemptions()
    together = await asyncio.gather(*map(write, prefixes))
    assert await count_preemptions() > before
    assert [c.token_ids for c in together[5]] == [c.token_ids for c in await write(prefixes[5])]
    for prefix, written in zip(prefixes, together, strict=True):
        expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in written]
        assert [candidate.log_likelihood for candidate in written] == pytest.approx(expected, abs=TOLERANCE)
        assert await score_all(engine, written, law(engine), prefix) == pytest.approx(expected, abs=TOLERANCE)


async def count_preemptions() -> float:
    await asyncio.sleep(0.2)  # statistics come after the answer
    name = "vllm:num_preemptions_total"
    return sum(s.value for family in REGISTRY.collect() for s in family.samples if s.name == name)
