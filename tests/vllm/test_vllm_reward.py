"""Reward models on vLLM: the contract with the shipped PRM, and every family against a plain Hugging Face pass."""

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from transformers import BertConfig, BertForTokenClassification

from gsi.engines.base import EngineSettings, RewardEngine
from gsi.engines.registry import REWARD_ENGINES
from gsi.errors import MisconfiguredError
from gsi.rpc.convert import ReceivedText
from tests.conftest import MODELS
from tests.engines.contract import STEPS, RewardEngineContract, rate_all, reference
from tests.engines.language_prm_checkpoints import math_shepherd, rlhflow, rlhflow_orm, token_classifier
from tests.engines.own_profile import write_own_profile
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

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[RewardEngine]:
    engine = await REWARD_ENGINES.load("vllm", EngineSettings(str(MODELS / "prm"), num_threads=1))
    yield engine
    engine.close()


class TestVllmRewardEngine(RewardEngineContract):
    """The shared contract."""


async def test_the_context_is_read_once(engine: RewardEngine) -> None:
    """By vLLM's own count, all of the context but its last block comes from the cache."""
    steps = STEPS * 20
    await rate_all(engine, CANDIDATES[:1], steps)
    before = cached_tokens()
    await rate_all(engine, CANDIDATES[1:], steps)
    assert cached_tokens() - before >= 20 * len(reference("prm")[1](STEPS[0])["input_ids"]) - 32


def cached_tokens() -> float:
    name = "vllm:prefix_cache_hits_total"
    return sum(s.value for family in REGISTRY.collect() for s in family.samples if s.name == name)


@pytest.mark.parametrize(
    ("family", "profile", "is_bounded", "is_counted"),
    [
        (skywork, "", True, True),
        (classifier, "", False, True),
        (classifier_of_two, "", True, True),
        (token_classifier, "", True, True),
        (reasonflux, "reasonflux-prm", True, True),
        (math_shepherd, "math-shepherd", True, True),
        (rlhflow, "rlhflow", True, True),
        (rlhflow_orm, "rlhflow-orm", True, True),
        (stock, "", False, False),  # transformers has no class for it
    ],
)
async def test_a_family_is_read_as_its_authors_read_it(
    family: Checkpoint, profile: str, is_bounded: bool, is_counted: bool, tmp_path: Path
) -> None:
    """Cold and cached, a reward equals that of a plain forward pass over the whole trajectory."""
    path, value = family(tmp_path / "model")
    engine = await REWARD_ENGINES.load("vllm", EngineSettings(str(path), num_threads=1, profile=profile))
    try:
        expected = [value(candidate.text) for candidate in CANDIDATES]
        for _ in range(2):
            assert await rate_all(engine, CANDIDATES) == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
        if profile:  # a language model's answer, too, costs the candidate alone
            before = cached_tokens()
            await rate_all(engine, CANDIDATES[:1], STEPS * 4)
            await rate_all(engine, CANDIDATES[1:], STEPS * 4)
            assert cached_tokens() - before >= 64
        assert engine.info.has_bounded_rewards == is_bounded
        assert not engine.info.likelihoods
        assert engine.info.num_parameters == (num_parameters_of_file(path) if is_counted else None)
    finally:
        engine.close()


async def test_the_mean_over_a_candidates_marks_is_that_of_the_other_engine(tmp_path: Path) -> None:
    """Each mark of a candidate of several lines is read by a request of its own."""
    lines = [ReceivedText(0, "38 - 18 = 20\nSo 20.\n\n"), *CANDIDATES[1:]]
    settings = EngineSettings(str(MODELS / "prm"), num_threads=1, profile=write_own_profile(tmp_path))
    rewards = []
    for name in ("transformers", "vllm"):
        engine = await REWARD_ENGINES.load(name, settings)
        try:
            rewards.append(await rate_all(engine, lines))
        finally:
            engine.close()
    assert rewards[1] == pytest.approx(rewards[0], abs=TOLERANCE)


def headless(folder: Path) -> Path:
    """Write a backbone alone, for which vLLM has a class that pools no rewards."""
    _, backbone = random_backbone()
    return write_checkpoint(folder, "Qwen2Model", dict(backbone.state_dict()))


def encoder(folder: Path) -> Path:
    """Write a token classifier that reads in both directions."""
    path = headless(folder)
    config = BertConfig(
        vocab_size=448, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=2
    )
    BertForTokenClassification(config).save_pretrained(path)
    return path


async def test_an_encoder_is_refused(tmp_path: Path) -> None:
    """Its class in vLLM pools the first token, which is no step's mark."""
    path = encoder(tmp_path / "model")
    with pytest.raises(MisconfiguredError, match=r"is a BertForTokenClassification, and vLLM gives no reward for it"):
        await REWARD_ENGINES.load("vllm", EngineSettings(str(path), num_threads=1))


@pytest.mark.parametrize("architecture", ["Qwen2ForCausalLM", "Qwen2Model"])
async def test_a_model_that_vllm_gives_no_reward_for_is_refused_at_start(architecture: str, tmp_path: Path) -> None:
    """Each request would fail otherwise. The error says which models work; a language model needs a profile."""
    path = MODELS / "target" if architecture == "Qwen2ForCausalLM" else headless(tmp_path / "model")
    with pytest.raises(MisconfiguredError) as refused:
        await REWARD_ENGINES.load("vllm", EngineSettings(str(path), num_threads=1))
    assert str(refused.value).startswith(f"{path} is a {architecture}, and vLLM gives no reward for it (")
    assert "reward models that work: *ForSequenceClassification, Qwen2ForProcessRewardModel" in str(refused.value)
    assert "by GSI_PRM_PROFILE: math-shepherd, rlhflow" in str(refused.value)
    del refused
    gc.collect()  # vLLM leaves sockets to the collector, and here their warnings are ignored
