"""A code for each token, such that its product with what a solver expects tells whether the token is right there.

This is logistic regression: the score of a token is ``expectation · code + bias``, above 0 where it is likely right.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2ForCausalLM

from training.grading import Judged
from training.language_model import IGNORED, pad_right
from training.recipe import CodeRecipe
from training.tokenizer import ASSISTANT, PAD, STEP_REWARD, TURN_END, TURN_START, encode, token_ids
from training.words import STEP_DELIMITER

CHUNK = 64  # sequences per forward pass
BATCH = 4096  # tokens
FIRST_BIAS = -12.0  # so a token that no data holds, such as a letter, counts as wrong
FRAME_BIAS = 8.0  # the chat template's tokens before a solution are no mistakes
WRONG_WEIGHT = 4.0  # wrong tokens are few
DECAY = 1e-4


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes [vocabulary, hidden] and biases [vocabulary]."""

    vectors: Tensor
    biases: Tensor


def read_steps_as_written(solver: Qwen2ForCausalLM) -> Qwen2ForCausalLM:
    """Return a copy that reads `<extra_0>`, which it never saw, as the delimiter that it stands for."""
    reader = copy.deepcopy(solver).eval()
    ids = token_ids()
    with torch.no_grad():
        rows = reader.model.embed_tokens.weight
        rows[ids[STEP_REWARD]] = rows[ids[STEP_DELIMITER]]
    return reader


def learn_codes(reader: Qwen2ForCausalLM, judged: list[Judged], recipe: CodeRecipe) -> Codes:
    """Fit codes and biases to the labels of tokens, each step as far as its first wrong token."""
    expected, tokens, labels = map(torch.cat, zip(*_collect(reader, judged), strict=True))
    rows = reader.model.embed_tokens.weight.detach()
    vectors = (rows - rows.mean(0)).requires_grad_()
    biases = torch.full((len(rows),), FIRST_BIAS, requires_grad=True)
    weights = torch.where(labels == 0, WRONG_WEIGHT, 1.0)
    optimiser = torch.optim.AdamW([vectors, biases], lr=recipe.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, recipe.steps)
    for _ in range(recipe.steps):
        drawn = torch.randint(len(labels), (BATCH,))
        scores = (expected[drawn] * vectors[tokens[drawn]]).sum(-1) + biases[tokens[drawn]]
        losses = functional.binary_cross_entropy_with_logits(scores, labels[drawn], reduction="none")
        loss = (losses * weights[drawn]).mean() + DECAY * vectors.pow(2).sum(-1).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return _allow_frame(Codes(vectors.detach(), biases.detach()))


@torch.inference_mode()
def _collect(reader: Qwen2ForCausalLM, judged: list[Judged]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield what was expected [tokens, hidden], the tokens that came, and their labels."""
    end = token_ids()[STEP_REWARD]
    for start in range(0, len(judged), CHUNK):
        part = judged[start : start + CHUNK]
        tokens = pad_right([row.tokens for row in part], token_ids()[PAD])
        labels = pad_right([row.labels for row in part], IGNORED)
        hidden = reader.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        is_fresh = (labels[:, :-1] != 0) | (tokens[:, :-1] == end)  # nothing was wrong in this step before
        used = (labels[:, 1:] == 1) | ((labels[:, 1:] == 0) & is_fresh)
        yield hidden[used].clone(), tokens[:, 1:][used], labels[:, 1:][used].float()


def _allow_frame(codes: Codes) -> Codes:
    ids = token_ids()
    frame = [*encode(["\n"])[0], *(ids[token] for token in (TURN_START, TURN_END, ASSISTANT))]
    codes.vectors[frame] = 0.0
    codes.biases[frame] = FRAME_BIAS
    return codes
