"""A reward model on vLLM's model runner V2, the one of GPUs: the contract with the shipped PRM."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gsi.engines.base import EngineSettings, RewardEngine
from gsi.engines.registry import REWARD_ENGINES
from tests.conftest import MODELS
from tests.engines.contract import RewardEngineContract
from tests.vllm.runner_v2 import model_runner_v2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),  # an engine starts
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[RewardEngine]:
    with model_runner_v2():
        engine: Any = await REWARD_ENGINES.load("vllm", EngineSettings(str(MODELS / "prm"), num_threads=1))
        assert engine.core.config.use_v2_model_runner
        yield engine
        engine.close()


class TestRewardEngineOnRunnerV2(RewardEngineContract):
    """The shared contract."""
