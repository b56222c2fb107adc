"""Models made at run time: random models of a given size, and shipped models inflated to the cost of larger models."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from gsi.runtime.installation import SHIPPED_MODELS

MAX_LENGTH = 4096
# The proportions of Qwen2.5-0.5B: hidden size 896, MLP size 4864, 14 heads of size 64, 2 key-value heads.
HEAD_SIZE = 64
MLP_RATIO = 4864 / 896
KEY_VALUE_HEADS = 2


def make_random_model(folder: Path, *, hidden_size: int, num_layers: int, is_prm: bool = False) -> Path:
    """Write a random Qwen2 of about 18 x layers x hidden^2 parameters, with our tokenizer; return its folder."""
    torch.manual_seed(0)
    shipped = SHIPPED_MODELS / ("prm" if is_prm else "target")
    config = Qwen2Config.from_pretrained(
        shipped,
        hidden_size=hidden_size,
        intermediate_size=int(MLP_RATIO * hidden_size) // HEAD_SIZE * HEAD_SIZE,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // HEAD_SIZE,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=MAX_LENGTH,
        layer_types=["full_attention"] * num_layers,
        max_window_layers=num_layers,
    )
    kind: type[PreTrainedModel] = Qwen2ForProcessRewardModel if is_prm else Qwen2ForCausalLM
    shutil.copytree(shipped, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md", "config.json"))
    kind(config).to(torch.float32).save_pretrained(folder)
    return folder


def make_inflated_model(folder: Path, role: str, intermediate_size: int) -> Path:
    """Write a shipped model with additional MLP neurons whose weights are zero; return its folder.

    The model computes the same function, so steps and acceptance stay those of the trained family. It costs as much as
    a model of its new size.
    """
    shipped = SHIPPED_MODELS / role
    shutil.copytree(shipped, folder)
    config = json.loads((shipped / "config.json").read_text())
    added = intermediate_size - config["intermediate_size"]
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": intermediate_size}))
    weights = load_file(shipped / "model.safetensors")
    for name, tensor in weights.items():
        if name.endswith(("gate_proj.weight", "up_proj.weight")):
            weights[name] = torch.nn.functional.pad(tensor, (0, 0, 0, added))
        elif name.endswith("down_proj.weight"):
            weights[name] = torch.nn.functional.pad(tensor, (0, added))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def count_parameters(folder: Path) -> int:
    """Return the number of parameters in a checkpoint."""
    return sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
