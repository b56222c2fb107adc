"""Draft and target: two Qwen2 language models that first solve the task, then learn to make mistakes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM

from training.optimise import optimise
from training.recipe import LanguageRecipe, Recipe, Shape
from training.task import (
    MAX_OPERATIONS,
    MODULUS,
    STEP_DELIMITER,
    Style,
    draw_operation,
    draw_problem,
    draw_wrong_result,
    solve,
    step_pieces,
)
from training.tokenizer import MAX_POSITIONS, PAD, TURN_END, VOCABULARY_SIZE, encode_pieces, piece_ids, prompt_tokens

PACK_LENGTH = 12  # single equations in a pack
PACK_ONLY_SHARE = 0.38  # share of the learning steps: without packs, the chains never teach the arithmetic
PACK_SHARE = 0.3  # share of the batches after that, so that the model does not forget the arithmetic
HARD_WEIGHT = 3.0  # a hard token's weight in the loss: the result always, the operand once packs are learned
IGNORED = -100  # the label that cross entropy ignores


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: its token ids and each token's weight as a label."""

    tokens: list[int]
    weights: list[float]


def make_qwen2_config(shape: Shape) -> Qwen2Config:
    """Return the configuration of a small Qwen2 backbone with tied input and output embeddings."""
    ids = piece_ids()
    return Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        eos_token_id=ids[TURN_END],
        pad_token_id=ids[PAD],
        bos_token_id=None,
    )


def train_solver(recipe: LanguageRecipe, family: Recipe, name: str, rng: random.Random) -> Qwen2ForCausalLM:
    """Return a model that solves the task without mistakes."""
    model = Qwen2ForCausalLM(make_qwen2_config(recipe.shape))
    packs_until = round(PACK_ONLY_SHARE * recipe.learn_steps)
    draw_packs = partial(_draw_batch, draw_pack, family.sequences, rng, recipe.style)
    draw_chains = partial(_draw_batch, draw_chain, family.sequences, rng, recipe.style)

    def learn_loss(step: int) -> tuple[torch.Tensor, float]:
        is_pack = step < packs_until or rng.random() < PACK_SHARE
        return weighted_loss(model, draw_packs() if is_pack else draw_chains())

    def settle_loss(_step: int) -> tuple[torch.Tensor, float]:
        is_pack = rng.random() < PACK_SHARE
        return weighted_loss(model, draw_packs() if is_pack else draw_chains(operand_weight=HARD_WEIGHT))

    optimise(model, learn_loss, recipe.learn_steps, family.learn_rate, f"{name}: learn")
    optimise(model, settle_loss, recipe.settle_steps, family.settle_rate, f"{name}: settle")
    return model


def teach_mistakes(
    model: Qwen2ForCausalLM, recipe: LanguageRecipe, family: Recipe, name: str, rng: random.Random
) -> None:
    """Fine-tune a solver in place on solutions with wrong results."""
    draw_chains = partial(_draw_batch, draw_chain, family.sequences, rng, recipe.style, recipe.noise, HARD_WEIGHT)

    def batch_loss(_step: int) -> tuple[torch.Tensor, float]:
        return weighted_loss(model, draw_chains())

    optimise(model, batch_loss, recipe.noise_steps, family.noise_rate, f"{name}: mistakes")


def draw_pack(rng: random.Random, style: Style, noise: float = 0.0) -> Example:
    """Draw a dense pack of unrelated single steps. Only their results are labels."""
    pieces: list[str] = []
    weights: list[float] = []
    for _ in range(PACK_LENGTH):
        value, operation = rng.randrange(MODULUS), draw_operation(rng)
        result = operation.apply(value)
        written = draw_wrong_result(rng, result) if rng.random() < noise else result
        word = style.get(operation.symbol, ("", 0.0))[0] if rng.random() < 0.5 else ""
        step = step_pieces(rng.randint(1, MAX_OPERATIONS), value, operation, written, word)
        pieces += [*step, STEP_DELIMITER]
        weights += [0.0] * (len(step) - 1) + [HARD_WEIGHT, 0.0]
    return Example(encode_pieces(pieces), weights)


def draw_chain(rng: random.Random, style: Style, noise: float = 0.0, operand_weight: float = 1.0) -> Example:
    """Draw a problem of the training split with a solution. The prompt's tokens are not labels."""
    problem = draw_problem(rng, "train")
    tokens = prompt_tokens(problem)
    weights = [0.0] * len(tokens)
    *steps, answer = solve(problem, rng, style, noise)
    for step in steps:
        tokens += encode_pieces([*step, STEP_DELIMITER])
        weights += [1.0] * (len(step) - 3) + [operand_weight, 1.0, HARD_WEIGHT, 1.0]
    tokens += encode_pieces([*answer, TURN_END])
    weights += [1.0] * (len(answer) + 1)
    return Example(tokens, weights)


def _draw_batch(draw: Callable[..., Example], sequences: int, *how: Any, **more: float) -> list[Example]:
    return [draw(*how, **more) for _ in range(sequences)]


def weighted_loss(model: Qwen2ForCausalLM, examples: list[Example]) -> tuple[torch.Tensor, float]:
    """Return the weighted cross entropy of a batch and the accuracy of its hard tokens.

    Padding is on the right, so the causal mask already hides it.
    """
    tokens = pad_right([example.tokens for example in examples], piece_ids()[PAD])
    weights = pad_right([example.weights for example in examples], 0.0)[:, 1:]
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    rows = weights > 0  # [batch, length - 1]
    chosen, labels, weight = logits[rows], tokens[:, 1:][rows], weights[rows]
    losses = functional.cross_entropy(chosen, labels, reduction="none")
    is_hard = weight == HARD_WEIGHT
    accuracy = (chosen.detach().argmax(-1) == labels)[is_hard].float().mean().item()
    return (losses * weight).sum() / weight.sum(), accuracy


def pad_right(rows: list[list[int]] | list[list[float]], value: float) -> torch.Tensor:
    """Return rows of different length as one tensor [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
