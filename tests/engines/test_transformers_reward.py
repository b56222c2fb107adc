"""The transformers PRM engine keeps the contract, and refuses what is not a PRM."""

import asyncio
from collections.abc import Iterator

import pytest

from gsi.engines.base import EngineSettings, RewardEngine
from gsi.engines.registry import load_language_engine, load_reward_engine
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS
from tests.engines.contract import RewardEngineContract


@pytest.fixture(scope="module")
def engine() -> Iterator[RewardEngine]:
    settings = EngineSettings(str(MODELS / "prm"), num_threads=1)
    engine = asyncio.run(load_reward_engine("transformers", settings))
    yield engine
    engine.close()


class TestTransformersRewardEngine(RewardEngineContract):
    """The shared contract."""


async def test_a_language_model_is_refused_as_a_prm() -> None:
    """Its missing head would be filled with random numbers, and every reward would be a guess."""
    with pytest.raises(MisconfiguredError, match=r"target is no Qwen2ForProcessRewardModel: it lacks score\.0"):
        await load_reward_engine("transformers", EngineSettings(str(MODELS / "target")))


async def test_an_unknown_engine_is_named_with_those_that_exist() -> None:
    """A typing error in GSI_DRAFT_ENGINE ends in one sentence."""
    with pytest.raises(ValueError, match="unknown engine 'trnsformers'; allowed: transformers, vllm"):
        await load_language_engine("trnsformers", EngineSettings("anything"))


async def test_arguments_of_another_engine_are_refused() -> None:
    """GSI_PRM_ENGINE_ARGS is for engines that have a command line."""
    with pytest.raises(MisconfiguredError, match="engine_args: --seed 1; allowed: none, the transformers engine"):
        await load_reward_engine("transformers", EngineSettings(str(MODELS / "prm"), engine_args="--seed 1"))
