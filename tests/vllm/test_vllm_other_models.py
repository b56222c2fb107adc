"""A model with sliding windows only, and a last layer wider than its vocabulary, on both of vLLM's model runners."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.language import VllmEngine
from gsi.engines.on_vllm.suffix_scoring import ScoringPath
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.errors import InvalidRequestError
from gsi.rpc.convert import ReceivedTokens
from tests.engines.contract import TOLERANCE, check_scores, law, score_all
from tests.engines.language_checkpoints import WIDTH, log_law, log_likelihood, write_mistral
from tests.vllm.runner_v2 import model_runner_v2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),  # an engine starts
]

WINDOW = 48
Loaded = tuple[VllmEngine, Path]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["V1", "V2"])
async def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Loaded]:
    checkpoint = write_mistral(tmp_path_factory.mktemp("mistral") / "model", sliding_window=WINDOW)
    with model_runner_v2() if request.param == "V2" else contextlib.nullcontext():
        engine: Any = await LANGUAGE_ENGINES.load(
            "vllm", EngineSettings(str(checkpoint), num_threads=1, engine_args="--max-num-seqs 16")
        )
        yield engine, checkpoint
        engine.close()


def draw_tokens(seed: int, count: int, engine: VllmEngine) -> tuple[int, ...]:
    draw = random.Random(seed)
    return tuple(draw.randrange(engine.info.vocabulary_size) for _ in range(count))


@pytest.mark.parametrize("num_prefix", [31, 64, 200])
async def test_windows_change_no_score(loaded: Loaded, num_prefix: int) -> None:
    """Cold and from the cache. A window's cache looks for blocks from the end, where the suffix is."""
    engine, checkpoint = loaded
    assert engine.scorer.path in {ScoringPath.SUFFIX, ScoringPath.NATIVE}
    prefix = draw_tokens(num_prefix, num_prefix, engine)
    rows = [draw_tokens(seed, length, engine) for seed, length in enumerate((1, 20, 33))]
    candidates = [ReceivedTokens(index, row) for index, row in enumerate([*rows, rows[1]])]
    expected = [log_likelihood(checkpoint, prefix, candidate.token_ids) for candidate in candidates]
    for _ in range(2):
        check_scores(await score_all(engine, candidates, law(engine), prefix), expected, candidates)


async def test_an_id_without_a_token_is_never_written(loaded: Loaded) -> None:
    """The model would have written some. The likelihood is of the law that the tokens are drawn from."""
    engine, checkpoint = loaded
    prefix = draw_tokens(5, 40, engine)
    sampling = law(engine, max_step_tokens=4)
    written = [c async for batch in engine.propose(prefix, 48, sampling, 3) for c in batch]
    assert max(token for candidate in written for token in candidate.token_ids) < engine.info.vocabulary_size < WIDTH
    expected = [log_likelihood(checkpoint, prefix, candidate.token_ids) for candidate in written]
    assert [candidate.log_likelihood for candidate in written] == pytest.approx(expected, abs=TOLERANCE)
    assert await score_all(engine, written, sampling, prefix) == pytest.approx(expected, abs=TOLERANCE)
    assert log_law(checkpoint, prefix, 0.7)[-1].exp().sum() == pytest.approx(1.0)


async def test_an_id_without_a_token_is_refused(loaded: Loaded) -> None:
    """The error names the id and the ids allowed, which are the tokenizer's."""
    engine, _ = loaded
    allowed = engine.info.vocabulary_size - 1
    with pytest.raises(InvalidRequestError, match=f"candidate has token id {WIDTH - 1}; allowed: 0 to {allowed}"):
        await score_all(engine, [ReceivedTokens(0, (5, WIDTH - 1))], law(engine), (1, 2, 3))
