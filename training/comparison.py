"""A start for the PRM: it looks for the last token of a step that a solver did not expect.

A solver's last layer holds what it expects next, which tells nearly every wrong token from a right one. But a fresh
layer on top of it learned nothing in a thousand steps: which token came hardly shows in the last layer any more. So
the PRM is wider than the solver. The further dimensions carry a code of the token that came, untouched, to three layers
that are planted: one multiplies the code with what was expected at the token before, which gives the token's score;
one cuts the scores into a range; one looks up, from each token, the most recent mistake or start of a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from gsi.engines.on_transformers.qwen2_prm import NUM_LABELS, Qwen2ForProcessRewardModel
from training.codes import Codes
from training.induction import HEAD_SIZE, look_at_previous
from training.language_model import begin_as_identity, make_qwen2_config
from training.recipe import Shape
from training.tokenizer import ASSISTANT, STEP_REWARD, token_ids

FRESH_LAYERS = 3
SPARE = 32  # dimensions besides the expectation's and the code's, of which each name below is one
CONSTANT, SCORE, WRONG, MARK, VERDICT, FLAG, BIAS, START, DOUBT, DOUBT_MARK, DOUBT_VERDICT = range(11)

UNIT = 50.0  # what the planted layers write is so much larger than what the solver's layers write
CODE_SCALE = 0.02  # small: the solver's layers must read what they read before
FLAG_SCALE = 20 * CODE_SCALE
ROLE_FLAG = 0.55  # what the solver's last layer writes is smaller at a role's name than at `<extra_0>`
FLAG_GAIN = 18.6
FOCUS = 1.7  # then the token before gets all of the attention
SCORE_SCALE = 0.1  # a score of 10 is one unit
STRENGTH = 10.0  # units of a full mark
CUT_GAIN = 8.0  # SiLU is nearly a ramp at this gain
REACH = 44.0  # tokens: a step is shorter
FIT_TOKENS = 160  # distances for which the attention's fall is fitted
SLOPE = 40.0


def plant_comparison(
    solver: Qwen2ForCausalLM, shape: Shape, codes: Codes, samples: Tensor, is_token: Tensor
) -> Qwen2ForProcessRewardModel:
    """Return a PRM of ``shape`` that judges by the solver's expectations; every weight stays trainable.

    ``samples`` [rows, length] are token ids of solutions, padded where ``is_token`` is false; they set the scales.
    """
    config = make_qwen2_config(shape)
    config.num_labels = NUM_LABELS
    model = Qwen2ForProcessRewardModel(config)
    narrow = solver.config.hidden_size
    compare, cut, search = model.model.layers[-FRESH_LAYERS:]
    theta = config.rope_parameters["rope_theta"]
    with torch.no_grad():
        _plant_embeddings(model.model.embed_tokens.weight, solver, codes)
        for layer, fresh in zip(solver.model.layers, model.model.layers, strict=False):
            _copy_layer(layer, fresh)
        for fresh in (compare, cut, search):
            begin_as_identity(fresh)
        _plant_expectation(compare, solver, theta)
        _set_norms(model, narrow, _measure_size(model, compare, samples, is_token))
        _plant_scores(compare, narrow)
        _plant_cuts(cut, 2 * narrow)
        weights = _fit_fall(theta)
        _plant_search(search, 0, 2 * narrow, weights, (MARK, WRONG, VERDICT))
        _plant_search(search, 1, 2 * narrow, weights, (DOUBT_MARK, DOUBT, DOUBT_VERDICT))
        _plant_head(model.score, 2 * narrow)
    return model


def compute_width(narrow: int) -> int:
    """Return the hidden size of a PRM that is planted on a solver of hidden size ``narrow``."""
    return 2 * narrow + SPARE


def _plant_embeddings(rows: Tensor, solver: Qwen2ForCausalLM, codes: Codes) -> None:
    """Set the solver's embeddings [vocabulary, narrow], the codes beside them, and flags before a step's start."""
    ids = token_ids()
    narrow = solver.config.hidden_size
    rows.zero_()
    rows[:, :narrow] = solver.model.embed_tokens.weight
    rows[:, narrow : 2 * narrow] = CODE_SCALE * codes.vectors
    rows[:, 2 * narrow + BIAS] = CODE_SCALE * codes.biases
    rows[ids[STEP_REWARD], 2 * narrow + FLAG] = FLAG_SCALE
    rows[ids[ASSISTANT], 2 * narrow + FLAG] = FLAG_SCALE * ROLE_FLAG


def _copy_layer(layer: Qwen2DecoderLayer, fresh: Qwen2DecoderLayer) -> None:
    """Copy a layer into a wider one, which neither reads nor writes the further dimensions."""
    begin_as_identity(fresh)
    _copy_norm(layer.input_layernorm.weight, fresh.input_layernorm.weight)
    _copy_norm(layer.post_attention_layernorm.weight, fresh.post_attention_layernorm.weight)
    for name, part in layer.named_modules():
        if isinstance(part, nn.Linear):
            rows, columns = part.weight.shape
            wide = fresh.get_submodule(name)
            wide.weight[:rows] = 0.0
            wide.weight[:rows, :columns] = part.weight
            if part.bias is not None:
                wide.bias[:rows] = part.bias


def _copy_norm(weight: Tensor, wider: Tensor) -> None:
    """Set a norm's weights: further dimensions that are small make the mean of squares smaller by their share."""
    narrow, wide = len(weight), len(wider)
    wider.zero_()
    wider[:narrow] = weight * math.sqrt(narrow / wide)


def _plant_expectation(layer: Qwen2DecoderLayer, solver: Qwen2ForCausalLM, theta: float) -> None:
    """Let heads fetch what the solver expected after the token before, and whether that token ends a step."""
    attention, narrow, wide = layer.self_attn, solver.config.hidden_size, layer.hidden_size
    spare = 2 * narrow
    _copy_norm(solver.model.norm.weight, layer.input_layernorm.weight)
    layer.input_layernorm.weight[spare + FLAG] = FLAG_GAIN / FLAG_SCALE / math.sqrt(wide)
    for first in range(0, narrow + HEAD_SIZE, HEAD_SIZE):
        rows = slice(first, first + HEAD_SIZE)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight[rows] = 0.0
        query, key = attention.q_proj.bias[rows], attention.k_proj.bias[rows]
        look_at_previous(query, key, theta)
        query *= FOCUS
        key *= FOCUS
    attention.v_proj.weight[:narrow, :narrow] = torch.eye(narrow)
    attention.o_proj.weight[:narrow, :narrow] = UNIT * torch.eye(narrow)
    attention.v_proj.weight[narrow, spare + FLAG] = 1.0
    attention.o_proj.weight[spare + START, narrow] = 4 * UNIT
    attention.v_proj.bias[narrow + 1] = 1.0
    attention.o_proj.weight[spare + CONSTANT, narrow + 1] = 2 * UNIT


def _measure_size(
    model: Qwen2ForProcessRewardModel, layer: Qwen2DecoderLayer, samples: Tensor, is_token: Tensor
) -> float:
    """Return the root mean square of what the stream holds once the expectations are in it."""
    found: list[Tensor] = []
    hook = layer.post_attention_layernorm.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    model.model(input_ids=samples, use_cache=False)
    hook.remove()
    return found[0][is_token].pow(2).mean(-1).sqrt().mean().item()


def _set_norms(model: Qwen2ForProcessRewardModel, narrow: int, size: float) -> None:
    """Let the planted layers read units; the codes are read in full by the comparing layer only."""
    compare, *later = model.model.layers[-FRESH_LAYERS:]
    norms = [compare.post_attention_layernorm, model.model.norm]
    for layer in later:
        norms += [layer.input_layernorm, layer.post_attention_layernorm]
    for norm in norms:
        share = 1.0 if norm is compare.post_attention_layernorm else 0.3
        norm.weight[:] = size / UNIT
        norm.weight[narrow : 2 * narrow] = share * size / CODE_SCALE
        norm.weight[2 * narrow + BIAS] = share * size / CODE_SCALE


def _plant_scores(layer: Qwen2DecoderLayer, narrow: int) -> None:
    """Write minus the score: neurons in pairs multiply, since SiLU(x) y + SiLU(-x) (-y) = x y."""
    gate, up, down = _neurons(layer)
    factors = [*((k, 1.0, narrow + k) for k in range(narrow)), (2 * narrow + CONSTANT, 0.5, 2 * narrow + BIAS)]
    gate[: 2 * len(factors)], up[: 2 * len(factors)] = 0.0, 0.0
    for index, (expected, share, code) in enumerate(factors):
        for row, sign in ((2 * index, 1.0), (2 * index + 1, -1.0)):
            gate[row, expected], up[row, code] = sign * share, sign
    down[2 * narrow + SCORE, : 2 * len(factors)] = -SCORE_SCALE * UNIT


def _plant_cuts(layer: Qwen2DecoderLayer, spare: int) -> None:
    """Cut scores and flags into marks of at most full strength: one ramp for mistakes, wider ones for doubts."""
    gate, up, down = _neurons(layer)
    per_score = 1.0 / SCORE_SCALE  # the stream holds minus the score
    ramps: tuple[tuple[int, float, float, float, Sequence[int]], ...] = (
        (SCORE, per_score, -2.0, 2.0, (WRONG, MARK)),
        (START, 1.0, 1.0, 2.0, (MARK, DOUBT_MARK)),
        (SCORE, per_score, -6.0, -3.0, (DOUBT_MARK,)),
        (SCORE, per_score, -6.0, 6.0, (DOUBT,)),
    )
    gate[: 2 * len(ramps)], up[: 2 * len(ramps)] = 0.0, 0.0
    up[: 2 * len(ramps), spare + CONSTANT] = 0.5  # the constant is two units
    for index, (source, scale, low, high, places) in enumerate(ramps):
        for row, edge, sign in ((2 * index, low, 1.0), (2 * index + 1, high, -1.0)):
            gate[row, spare + source] = CUT_GAIN * scale / (high - low)
            gate[row, spare + CONSTANT] = -CUT_GAIN * edge / (high - low) / 2
            for place in places:
                down[spare + place, row] = sign * STRENGTH * UNIT / CUT_GAIN


def _fit_fall(theta: float) -> Tensor:
    """Return a weight for each of RoPE's pairs [pairs] such that their cosines fall with the logarithm of the distance.

    They are positive within ``REACH`` and negative beyond it.
    """
    pairs = torch.arange(HEAD_SIZE // 2)
    distances = torch.arange(float(FIT_TOKENS))
    cosines = torch.cos(theta ** (-pairs / len(pairs)) * distances[:, None])
    importance = (distances + 4.0) ** -0.5
    rows, wanted = cosines * importance[:, None], torch.log(REACH / (distances + 4.0)) * importance
    weights: Tensor = torch.linalg.solve(rows.T @ rows + 1e-3 * torch.eye(len(pairs)), rows.T @ wanted)
    return weights


def _plant_search(
    layer: Qwen2DecoderLayer, head: int, spare: int, weights: Tensor, places: tuple[int, int, int]
) -> None:
    """Let one head find the most recent mark, and write what is held beside it."""
    mark, held, verdict = places
    attention = layer.self_attn
    first = head * HEAD_SIZE
    rows, pairs = slice(first, first + HEAD_SIZE), slice(first, first + HEAD_SIZE // 2)
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight[rows], projection.bias[rows] = 0.0, 0.0
    attention.v_proj.weight[rows] = 0.0
    size = (SLOPE * weights.abs() * math.sqrt(HEAD_SIZE)).sqrt()
    attention.q_proj.bias[pairs] = size
    attention.k_proj.weight[pairs, spare + mark] = size * weights.sign() / STRENGTH
    attention.v_proj.weight[first, spare + held] = 1.0 / STRENGTH
    attention.o_proj.weight[spare + verdict, first] = STRENGTH * UNIT


def _plant_head(score: nn.Sequential, spare: int) -> None:
    """Judge by both verdicts; what the other neurons say is quiet at first."""
    hidden, output = (part for part in score if isinstance(part, nn.Linear))
    hidden.weight[:2], hidden.bias[:2] = 0.0, 0.0
    for verdict in (VERDICT, DOUBT_VERDICT):
        hidden.weight[0, spare + verdict], hidden.weight[1, spare + verdict] = 1 / STRENGTH, -1 / STRENGTH
    hidden.bias[1] = 1.0
    output.weight *= 0.05
    output.bias.zero_()
    output.weight[:, :2] = torch.tensor([[3.0, -3.0], [-3.0, 3.0]])


def _neurons(layer: Qwen2DecoderLayer) -> tuple[Tensor, Tensor, Tensor]:
    return layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight
