"""Engine ``remote`` on ``vllm serve --enable-scale-out`` with the model runner of GPUs: it scores over the cache."""

import random
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.on_remote.language import RemoteEngine
from gsi.engines.on_remote.vllm_server import VllmServer
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import check_scores, law, propose_all, reference_log_likelihood, score_all
from tests.vllm.runner_v2 import environment
from tests.vllm.served import served

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]

BLOCK = 32
ROUNDING = 1e-3  # nats over a step
SCORING = SamplingParams(likelihood=Likelihood.MODEL)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RemoteEngine]:
    folder = tmp_path_factory.mktemp("served")
    with served("target", folder, "--enable-scale-out", "--max-model-len", "256", environment=environment()) as server:
        server.wait()
        settings = EngineSettings(str(MODELS / "target"), remote_url=server.url, likelihood=Likelihood.MODEL)
        engine = await RemoteEngine.load(settings)
        yield engine
        await engine.http.wait_closed()


async def test_rows_are_those_of_a_plain_forward_pass(engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cold and cached, on both sides of a block's end, for candidates that were drawn or are improbable."""
    server = engine.server
    assert isinstance(server, VllmServer)
    asked: list[tuple[int, bool, bool]] = []  # length of the prefix, whether with the cache, whether answered
    ask = server._score_rows

    async def counting(prefix: Sequence[int], token_ids: Sequence[int], *, reads_cache: bool) -> float | None:
        value = await ask(prefix, token_ids, reads_cache=reads_cache)
        asked.append((len(prefix), reads_cache, value is not None))
        return value

    monkeypatch.setattr(server, "_score_rows", counting)
    numbers = random.Random(1)
    for length in (BLOCK - 1, BLOCK, BLOCK + 1, 70):
        prefix = tuple(numbers.randrange(440) for _ in range(length))
        rows = [tuple(numbers.randrange(440) for _ in range(size)) for size in (1, 5, 40)]
        candidates = [ReceivedTokens(index, row) for index, row in enumerate(rows)]
        expected = [reference_log_likelihood(prefix, row, SCORING) for row in rows]
        for _ in range(2):
            check_scores(await score_all(engine, candidates, SCORING, prefix), expected, candidates, ROUNDING)
    assert {answered for _, reads_cache, answered in asked if not reads_cache} <= {True}
    assert any(reads_cache and answered for _, reads_cache, answered in asked)


async def test_a_drawn_step_has_the_same_likelihood_when_it_is_scored(engine: RemoteEngine) -> None:
    """Its tokens were read before, by the request that wrote them."""
    candidates = await propose_all(engine, 6, law(engine, temperature=1.3))
    values = await score_all(engine, candidates, law(engine))
    assert values == pytest.approx([candidate.log_likelihood for candidate in candidates], abs=ROUNDING)
