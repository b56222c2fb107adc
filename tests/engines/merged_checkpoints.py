"""A random target and a random PRM of one architecture, and their merge."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from gsi.engines.hugging_face.merging import Merge, merge
from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from tests.conftest import MODELS
from tests.engines.reward_checkpoints import reasonflux, write_checkpoint

OWN_TOKEN = "<own>"  # that only the PRM knows
WEIGHT = 0.6  # the language model's share, as in the RSD paper


def write_language(folder: Path) -> Path:
    """Write a random language model whose last layer is its embedding, with the PRM's architecture and tokenizer."""
    torch.manual_seed(7)
    model = Qwen2ForCausalLM(Qwen2Config.from_pretrained(MODELS / "prm"))
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    return write_checkpoint(folder, "Qwen2ForCausalLM", weights)


def write_reward(folder: Path) -> Path:
    """Write a random PRM that knows a token more."""
    path, _ = reasonflux(folder)
    described = json.loads((path / "tokenizer.json").read_text())
    known = AutoTokenizer.from_pretrained(path).get_vocab()
    added = {**described["added_tokens"][0], "content": OWN_TOKEN, "id": max(known.values()) + 1}
    described["added_tokens"].append(added)
    (path / "tokenizer.json").write_text(json.dumps(described))
    return path


def write_merged(folder: Path) -> Path:
    """Write a merge of the two: ``target`` and ``prm`` in the folder that is returned."""
    out = folder / "merged"
    merge(Merge(write_language(folder / "language"), write_reward(folder / "reward"), WEIGHT), out)
    return out


def write_head_on(language: Path, folder: Path) -> Path:
    """Write a PRM with the layers of a language model, and a random head."""
    torch.manual_seed(3)
    config = Qwen2Config.from_pretrained(language)
    head = Qwen2ForProcessRewardModel(config).score.state_dict(prefix="score.")
    path = write_checkpoint(folder, "Qwen2ForProcessRewardModel", {**load_file(language / "model.safetensors"), **head})
    described = json.loads((language / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**described, "architectures": ["Qwen2ForProcessRewardModel"]}))
    return path
