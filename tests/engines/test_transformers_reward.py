"""The transformers reward engine keeps the contract, reads every family, and refuses other models."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import BertConfig, BertForSequenceClassification

from gsi.engines.base import EngineSettings, RewardEngine
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS
from tests.engines.contract import RewardEngineContract, rate_all
from tests.engines.language_prm_checkpoints import math_shepherd, rlhflow, rlhflow_orm, token_classifier
from tests.engines.reward_checkpoints import (
    CANDIDATES,
    TOLERANCE,
    Checkpoint,
    classifier,
    classifier_of_two,
    num_parameters_of_file,
    random_backbone,
    reasonflux,
    skywork,
    stock,
    write_checkpoint,
)


@pytest.fixture(scope="module")
def engine() -> Iterator[RewardEngine]:
    settings = EngineSettings(str(MODELS / "prm"), num_threads=1)
    engine = asyncio.run(REWARD_ENGINES.load("transformers", settings))
    yield engine
    engine.close()


class TestTransformersRewardEngine(RewardEngineContract):
    """The shared contract."""


@pytest.mark.parametrize(
    ("family", "profile", "is_bounded"),
    [
        (skywork, "", True),
        (classifier, "", False),
        (classifier_of_two, "", True),
        (token_classifier, "", True),
        (reasonflux, "reasonflux-prm", True),
        (math_shepherd, "math-shepherd", True),
        (rlhflow, "rlhflow", True),
        (rlhflow_orm, "rlhflow-orm", True),
    ],
)
async def test_a_family_is_read_as_its_authors_read_it(
    family: Checkpoint, profile: str, is_bounded: bool, tmp_path: Path
) -> None:
    """Together and alone, over one prefix, a reward equals that of a plain pass over the whole trajectory."""
    path, value = family(tmp_path / "model")
    engine = await REWARD_ENGINES.load("transformers", EngineSettings(str(path), num_threads=1, profile=profile))
    expected = [value(candidate.text) for candidate in CANDIDATES]
    assert await rate_all(engine, CANDIDATES) == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    assert await rate_all(engine, CANDIDATES[1:]) == pytest.approx(expected[1:], rel=TOLERANCE, abs=TOLERANCE)
    assert engine.info.has_bounded_rewards == is_bounded
    assert engine.info.reading == profile  # a result says so
    assert engine.info.num_parameters == num_parameters_of_file(path)
    engine.close()


async def test_a_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    """transformers would fill the head with random numbers, and every reward would be a guess."""
    _, backbone = random_backbone()
    weights = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    path = write_checkpoint(tmp_path / "headless", "Qwen2ForProcessRewardModel", weights)
    with pytest.raises(MisconfiguredError, match=r"headless is no Qwen2ForProcessRewardModel: it lacks score\.0"):
        await REWARD_ENGINES.load("transformers", EngineSettings(str(path)))


async def test_what_is_no_reward_model_is_refused_with_what_is(tmp_path: Path) -> None:
    """The error lists the families; the models are a language model and one that only vLLM has a class for."""
    path, _ = stock(tmp_path / "stock")
    for model, architecture in ((MODELS / "target", "Qwen2ForCausalLM"), (path, "Qwen2ForRewardModel")):
        with pytest.raises(MisconfiguredError) as refused:
            await REWARD_ENGINES.load("transformers", EngineSettings(str(model)))
        assert str(refused.value) == (
            f"{model} is a {architecture}; reward models that can be read: "
            "*ForSequenceClassification, Qwen2ForProcessRewardModel, Qwen2ForPrmModel, *ForTokenClassification; "
            "language models by GSI_PRM_PROFILE: math-shepherd, rlhflow-orm, rlhflow, or your own"
        )


async def test_a_classifier_that_reads_backwards_is_refused(tmp_path: Path) -> None:
    """What it has read of a prefix changes with the text behind the prefix."""
    path, _ = classifier(tmp_path / "bert")
    config = BertConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=1, intermediate_size=32, num_labels=1
    )
    BertForSequenceClassification(config).save_pretrained(path)
    assert json.loads((path / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    with pytest.raises(MisconfiguredError, match="bert is a BertForSequenceClassification without a head named score"):
        await REWARD_ENGINES.load("transformers", EngineSettings(str(path)))


async def test_an_unknown_engine_is_named_with_those_that_exist() -> None:
    """A typing error in GSI_DRAFT_ENGINE ends in one sentence."""
    with pytest.raises(ValueError, match="unknown engine 'trnsformers'; allowed: transformers, vllm"):
        await LANGUAGE_ENGINES.load("trnsformers", EngineSettings("anything"))


async def test_arguments_of_another_engine_are_refused() -> None:
    """GSI_PRM_ENGINE_ARGS is for engines that have a command line."""
    with pytest.raises(MisconfiguredError, match="engine_args: --seed 1; allowed: none, the transformers engine"):
        await REWARD_ENGINES.load("transformers", EngineSettings(str(MODELS / "prm"), engine_args="--seed 1"))
