"""A start for small models that must look things up: two attention heads begin as an induction head.

After ` Monday`, such a pair finds the earlier ` Monday` and copies what followed it. Language models learn such heads
by themselves (Olsson et al., 2022, arXiv:2209.11895). Models this small took thousands of steps, if they learned them
at all. Every weight stays trainable.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

HEAD_SIZE = 32
POSITION_PAIRS = 5  # of RoPE's 16 pairs: the fastest tell a token from its neighbours
POSITION_SCALE = 5.0  # then the token before gets most of the attention
LOOKUP_PAIRS = slice(7, 16)  # the slowest: they hardly turn within a problem, so a match counts at any distance
LOOKUP_SCALE = 2.2  # then a match has about e^8 times the weight of another token
QUIET_SCALE = 0.05  # of what all else writes at the start: it would drown the planted heads
COPY_SCALE = 0.15  # then what a head writes is about as large as a token's embedding


def plant_induction_head(model: Qwen2ForCausalLM) -> None:
    """Set the first head of the first two layers in place; the generator of torch draws the subspaces."""
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    hidden = model.config.hidden_size
    read, write, copied = (_draw_subspace(hidden) for _ in range(3))  # [head size, hidden]
    head = slice(0, HEAD_SIZE)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= QUIET_SCALE
            layer.mlp.down_proj.weight *= QUIET_SCALE
        for projection in (first.q_proj, first.k_proj, second.q_proj, second.k_proj):
            projection.weight[head] = 0.0
        look_at_previous(first.q_proj.bias, first.k_proj.bias, model.config.rope_parameters["rope_theta"])
        first.v_proj.weight[head], first.o_proj.weight[:, head] = read, COPY_SCALE * write.T
        second.q_proj.weight[head] = LOOKUP_SCALE * _keep_slow_pairs(read)
        second.k_proj.weight[head] = LOOKUP_SCALE * _keep_slow_pairs(write)
        second.v_proj.weight[head], second.o_proj.weight[:, head] = copied, COPY_SCALE * copied.T


def _draw_subspace(hidden: int) -> Tensor:
    """Return orthonormal rows [head size, hidden]."""
    columns: Tensor = torch.linalg.qr(torch.randn(hidden, HEAD_SIZE)).Q
    return columns.T


def look_at_previous(query: Tensor, key: Tensor, theta: float) -> None:
    """Set biases such that RoPE turns query and key of the token before it into the same direction."""
    half = HEAD_SIZE // 2
    for pair in range(POSITION_PAIRS):
        angle = theta ** (-pair / half)
        key[pair] = POSITION_SCALE
        query[pair], query[pair + half] = POSITION_SCALE * math.cos(angle), -POSITION_SCALE * math.sin(angle)


def _keep_slow_pairs(rows: Tensor) -> Tensor:
    """Return the rows with zeros wherever RoPE turns fast."""
    pairs = rows.new_zeros(HEAD_SIZE // 2)
    pairs[LOOKUP_PAIRS] = 1.0
    return rows * torch.cat([pairs, pairs])[:, None]
