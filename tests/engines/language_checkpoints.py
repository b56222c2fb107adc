"""Tiny random language models of another architecture than the shipped ones', and their law by a plain forward pass."""

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM

from tests.conftest import MODELS

WIDTH = 512  # of the last layer; the shipped tokenizer has fewer tokens


def write_mistral(folder: Path, sliding_window: int | None = None) -> Path:
    """Write a Mistral that would often write ids beyond its vocabulary: its last layer is wider than its tokenizer."""
    shutil.copytree(MODELS / "target", folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=WIDTH,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        sliding_window=sliding_window,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=None,
        pad_token_id=None,
        eos_token_id=256,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    return folder


@cache
def _load(checkpoint: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


@torch.inference_mode()
def log_law(checkpoint: Path, token_ids: Sequence[int], temperature: float) -> torch.Tensor:
    """Return log-probabilities [places, tokens] of softmax(logits / temperature) over the tokenizer's own tokens."""
    num_tokens = len(AutoTokenizer.from_pretrained(checkpoint))
    logits = _load(checkpoint)(torch.tensor([list(token_ids)])).logits[0, :, :num_tokens].double()
    return torch.log_softmax(logits / temperature, dim=-1)


def log_likelihood(
    checkpoint: Path, prefix: Sequence[int], token_ids: Sequence[int], temperature: float = 0.7
) -> float:
    """Return log pi(token_ids | prefix) in nats by a plain forward pass, over the tokenizer's own tokens."""
    rows = log_law(checkpoint, [*prefix, *token_ids], temperature)[len(prefix) - 1 : -1]
    return float(rows[range(len(token_ids)), list(token_ids)].sum())
