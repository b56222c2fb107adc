"""A connector that brings keys and values from elsewhere passes by vLLM's own prefix cache, and by a limit on that."""

import json
from typing import Any

import pytest

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.suffix_scoring import ScoringPath
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, TOLERANCE, law, reference_log_likelihood, score_all

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]  # an engine starts

CONNECTOR = {
    "kv_connector": "FakeConnector",
    "kv_connector_module_path": "tests.vllm.fake_connector",
    "kv_role": "kv_both",
}


async def test_what_a_connector_has_of_a_suffix_is_not_taken() -> None:
    """It would have brought the candidate's own tokens, whose rows are then missing or garbage."""
    arguments = f"--max-num-seqs 8 --disable-hybrid-kv-cache-manager --kv-transfer-config '{json.dumps(CONNECTOR)}'"
    settings = EngineSettings(str(MODELS / "target"), num_threads=1, engine_args=arguments)
    engine: Any = await LANGUAGE_ENGINES.load("vllm", settings)
    try:
        assert engine.scorer.path in {ScoringPath.SUFFIX, ScoringPath.NATIVE}  # the probe at the start was sound
        prefix = (engine.render(MESSAGES) * 2)[:60]
        candidates = [ReceivedTokens(index, tuple(range(start, start + 70))) for index, start in enumerate((9, 80))]
        expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
        values = await score_all(engine, candidates, law(engine), prefix)
        assert values == pytest.approx(expected, abs=10 * TOLERANCE)
    finally:
        engine.close()
