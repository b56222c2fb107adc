"""Reward models on vLLM: the contract with the PRM that ships, and every family against Hugging Face's forward pass.

The other families' checkpoints are random, with the names and shapes of the public ones.
"""

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from prometheus_client import REGISTRY
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, Qwen2Config, Qwen2Model

from gsi.engines.base import EngineSettings, RewardEngine
from gsi.engines.registry import load_reward_engine
from gsi.rpc.convert import ReceivedText
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, STEPS, RewardEngineContract, reference, rewarded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore")]

CANDIDATES = (ReceivedText(0, "Step 2: 7 - 28 = 10\n\n"), ReceivedText(1, "The answer is \\boxed{7}"))
TOLERANCE = 1e-5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[RewardEngine]:
    engine = await load_reward_engine("vllm", EngineSettings(str(MODELS / "prm"), num_threads=1))
    yield engine
    engine.close()


class TestVllmRewardEngine(RewardEngineContract):
    """The shared contract."""


async def test_the_context_is_read_once(engine: RewardEngine) -> None:
    """By vLLM's own count: all but the last block of what was read comes from its cache."""
    steps = STEPS * 20
    await rewarded(engine, CANDIDATES[:1], steps)
    before = cached_tokens()
    await rewarded(engine, CANDIDATES[1:], steps)
    assert cached_tokens() - before >= 20 * len(reference("prm")[1](STEPS[0])["input_ids"]) - 32


def cached_tokens() -> float:
    name = "vllm:prefix_cache_hits_total"
    return sum(s.value for family in REGISTRY.collect() for s in family.samples if s.name == name)


def random_backbone() -> tuple[Qwen2Config, Qwen2Model]:
    torch.manual_seed(0)
    config = Qwen2Config.from_pretrained(MODELS / "prm")
    return config, Qwen2Model(config).eval()


def written(folder: Path, architecture: str, weights: dict[str, torch.Tensor], **config: Any) -> Path:
    """Write a checkpoint with the shipped PRM's tokenizer."""
    folder.mkdir()
    for file in (MODELS / "prm").iterdir():
        if file.suffix != ".safetensors" and file.is_file():
            shutil.copy(file, folder)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, **config, "architectures": [architecture]}))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


Values = Callable[[str], float]  # a text to the reward that Hugging Face gives it


def value_head(folder: Path, architecture: str, names: tuple[str, ...], head: torch.nn.Module) -> tuple[Path, Any]:
    """Write a backbone with a head; return the head over the last token's hidden state as a function of token ids."""
    _, backbone = random_backbone()
    weights = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    weights |= dict(zip(names, head.state_dict().values(), strict=True))

    def last(token_ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            hidden = backbone(input_ids=torch.tensor([token_ids])).last_hidden_state[0, -1]
            outputs: torch.Tensor = head(hidden)
        return outputs

    return written(folder, architecture, weights), last


def skywork(folder: Path) -> tuple[Path, Values]:
    """A newline behind the problem and each step, one value through a sigmoid; no chat template."""
    _, tokenizer = reference("prm")
    head = torch.nn.Linear(Qwen2Config.from_pretrained(MODELS / "prm").hidden_size, 1)
    path, last = value_head(folder, "Qwen2ForPrmModel", ("v_head.summary.weight", "v_head.summary.bias"), head)

    def value(text: str) -> float:
        token_ids = tokenizer((tokenizer.bos_token or "") + MESSAGES[0].content + "\n")["input_ids"]
        for step in (*STEPS, text):
            token_ids += [*tokenizer(step.rstrip("\n"))["input_ids"], *tokenizer("\n")["input_ids"]]
        return float(torch.sigmoid(last(token_ids)))

    return path, value


def conversation(tokenizer: Any, text: str) -> list[int]:
    """The finished conversation by the chat template, its last answer ending in the candidate."""
    messages = [
        {"role": "user", "content": MESSAGES[0].content},
        {"role": "assistant", "content": (STEPS[0] + text).rstrip()},
    ]
    token_ids: list[int] = tokenizer.apply_chat_template(messages, return_dict=False)
    return token_ids


def classifier(folder: Path) -> tuple[Path, Values]:
    """An outcome model such as Skywork-Reward: one value at the end of the conversation."""
    config, backbone = random_backbone()
    _, tokenizer = reference("prm")
    config.num_labels, config.pad_token_id = 1, 0
    model = AutoModelForSequenceClassification.from_config(config).float().eval()
    model.model.load_state_dict(backbone.state_dict())
    path = written(folder, "Qwen2ForSequenceClassification", model.state_dict(), num_labels=1, pad_token_id=0)

    def value(text: str) -> float:
        with torch.inference_mode():
            return float(torch.sigmoid(model(torch.tensor([conversation(tokenizer, text)])).logits[0, 0]))

    return path, value


def stock(folder: Path) -> tuple[Path, Values]:
    """A reward model that we have no class for and vLLM has: Qwen2.5-Math-RM's, one value at every token."""
    _, tokenizer = reference("prm")
    hidden = Qwen2Config.from_pretrained(MODELS / "prm").hidden_size
    head = torch.nn.Sequential(torch.nn.Linear(hidden, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1))
    names = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
    path, last = value_head(folder, "Qwen2ForRewardModel", names, head)
    return path, lambda text: float(torch.sigmoid(last(conversation(tokenizer, text))))


@pytest.mark.parametrize("family", [skywork, classifier, stock])
async def test_a_family_is_read_as_its_authors_read_it(
    family: Callable[[Path], tuple[Path, Values]], tmp_path: Path
) -> None:
    """Cold and from the prefix cache: the reward of a plain forward pass over the whole trajectory."""
    path, value = family(tmp_path / "model")
    engine = await load_reward_engine("vllm", EngineSettings(str(path), num_threads=1))
    try:
        expected = [value(candidate.text) for candidate in CANDIDATES]
        for _ in range(2):
            assert await rewarded(engine, CANDIDATES) == pytest.approx(expected, abs=TOLERANCE)
    finally:
        engine.close()
