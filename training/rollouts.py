"""Sampling and scoring of many prefixes at a time, without an engine or a service, for speed.

Log-likelihoods are in nats, under the sampling distribution softmax(logits / temperature).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import DynamicCache, Qwen2ForCausalLM, Qwen2Model

from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from training.grading import Tokens
from training.language_model import pad_right
from training.tokenizer import PAD, TURN_END, token_ids
from training.words import STEP_DELIMITER

CHUNK_ROWS = 512  # rows per sampling pass, which bounds the cache's memory
CHUNK_PREFIXES = 64  # prefixes per scoring pass
MAX_STEP_TOKENS = 48
MAX_SOLUTION_TOKENS = 256
NO_TOKEN = -1  # fills the row after a candidate's end; unlike the padding token, it is never sampled


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled continuation: token ids with the stop token, and its log-likelihood in nats."""

    tokens: Tokens
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """Prefixes after a forward pass: cache, attention mask [rows, length], last hidden state [rows, hidden]."""

    cache: DynamicCache
    mask: torch.Tensor
    hidden: torch.Tensor


_Score = Callable[[_Prefilled, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps prefixes, each tail's prefix row, tails and their hidden states to one number per tail."""


def sample_steps(
    model: Qwen2ForCausalLM, prefixes: list[Tokens], count: int, temperature: float
) -> list[list[Candidate]]:
    """Sample `count` next steps for each prefix; a step ends with the delimiter or the end of turn."""
    ids = token_ids()
    return _sample(model, prefixes, count, temperature, {ids[STEP_DELIMITER], ids[TURN_END]}, MAX_STEP_TOKENS)


def sample_solutions(
    model: Qwen2ForCausalLM, prefixes: list[Tokens], count: int, temperature: float
) -> list[list[Candidate]]:
    """Sample `count` whole solutions for each prefix."""
    return _sample(model, prefixes, count, temperature, {token_ids()[TURN_END]}, MAX_SOLUTION_TOKENS)


@torch.inference_mode()
def score_steps(
    model: Qwen2ForCausalLM, prefixes: list[Tokens], candidates: list[list[Tokens]], temperature: float
) -> list[list[float]]:
    """Return the log-likelihood of every candidate after its prefix."""

    def score(prefilled: _Prefilled, rows: torch.Tensor, tails: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        states = torch.cat([prefilled.hidden[rows, None], hidden[:, :-1]], dim=1)
        log_probabilities = (model.lm_head(states) / temperature).log_softmax(-1)
        chosen = log_probabilities.gather(-1, tails[..., None]).squeeze(-1).double()
        sums: torch.Tensor = (chosen * (tails != token_ids()[PAD])).sum(-1)
        return sums

    return _score(model.model, prefixes, candidates, score)


@torch.inference_mode()
def reward_steps(
    model: Qwen2ForProcessRewardModel, prefixes: list[Tokens], candidates: list[list[Tokens]]
) -> list[list[float]]:
    """Return every candidate's reward in 0..1. Prefixes and candidates must be as `join_step` returns them."""

    def score(_prefilled: _Prefilled, _rows: torch.Tensor, tails: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        last = (tails != token_ids()[PAD]).sum(-1) - 1
        logits = model.score(hidden[torch.arange(len(tails)), last])
        rewards: torch.Tensor = logits.softmax(-1)[:, 1].double()
        return rewards

    return _score(model.model, prefixes, candidates, score)


@torch.inference_mode()
def _sample(
    model: Qwen2ForCausalLM, prefixes: list[Tokens], count: int, temperature: float, stops: set[int], limit: int
) -> list[list[Candidate]]:
    found: list[list[Candidate]] = []
    chunk = max(1, CHUNK_ROWS // count)
    for start in range(0, len(prefixes), chunk):
        part = prefixes[start : start + chunk]
        flat = _sample_chunk(model, part, count, temperature, stops, limit)
        found += [flat[row * count : (row + 1) * count] for row in range(len(part))]
    return found


def _sample_chunk(
    model: Qwen2ForCausalLM, prefixes: list[Tokens], count: int, temperature: float, stops: set[int], limit: int
) -> list[Candidate]:
    """Return the candidates of all prefixes in one list, in the order of the prefixes."""
    prefilled = _prefill(model.model, prefixes)
    rows = torch.arange(len(prefixes)).repeat_interleave(count)
    prefilled.cache.reorder_cache(rows)
    mask, hidden = prefilled.mask[rows], prefilled.hidden[rows]
    stop_ids = torch.tensor(sorted(stops))
    alive = torch.ones(len(rows), dtype=torch.bool)
    log_likelihoods = torch.zeros(len(rows), dtype=torch.float64)
    columns: list[torch.Tensor] = []
    while alive.any() and len(columns) < limit:
        log_probabilities = (model.lm_head(hidden) / temperature).log_softmax(-1)
        token = torch.multinomial(log_probabilities.exp(), 1)
        log_likelihoods += log_probabilities.gather(-1, token).squeeze(-1).double() * alive
        columns.append(torch.where(alive, token.squeeze(-1), NO_TOKEN))
        alive &= ~torch.isin(token.squeeze(-1), stop_ids)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        hidden = _advance(model.model, token, mask, prefilled.cache)[:, -1]
    tokens = torch.stack(columns, dim=1).tolist()
    return [
        Candidate(tuple(token for token in row if token != NO_TOKEN), log_likelihood)
        for row, log_likelihood in zip(tokens, log_likelihoods.tolist(), strict=True)
    ]


def _score(
    model: Qwen2Model, prefixes: list[Tokens], candidates: list[list[Tokens]], score: _Score
) -> list[list[float]]:
    """Run every distinct candidate once after its prefix. `score` turns its hidden states into one number."""
    results: list[list[float]] = []
    for start in range(0, len(prefixes), CHUNK_PREFIXES):
        part, owned = prefixes[start : start + CHUNK_PREFIXES], candidates[start : start + CHUNK_PREFIXES]
        pairs = list(dict.fromkeys((row, tail) for row, tails in enumerate(owned) for tail in tails))
        prefilled = _prefill(model, part)
        rows = torch.tensor([row for row, _ in pairs])
        tails = pad_right([list(tail) for _, tail in pairs], token_ids()[PAD])
        prefilled.cache.reorder_cache(rows)
        mask = torch.cat([prefilled.mask[rows], torch.ones_like(tails)], dim=1)
        hidden = _advance(model, tails, mask, prefilled.cache)
        value = dict(zip(pairs, score(prefilled, rows, tails, hidden).tolist(), strict=True))
        results += [[value[row, tail] for tail in owned_by] for row, owned_by in enumerate(owned)]
    return results


def _prefill(model: Qwen2Model, prefixes: list[Tokens]) -> _Prefilled:
    """Run all prefixes, padded on the left so that their last tokens are in one column."""
    longest = max(map(len, prefixes))
    pad = token_ids()[PAD]
    tokens = torch.tensor([[pad] * (longest - len(prefix)) + list(prefix) for prefix in prefixes])
    mask = torch.tensor([[0] * (longest - len(prefix)) + [1] * len(prefix) for prefix in prefixes])
    cache = DynamicCache(config=model.config)
    hidden = _advance(model, tokens, mask, cache)
    return _Prefilled(cache, mask, hidden[:, -1])


def _advance(model: Qwen2Model, tokens: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
    """Run `tokens` [rows, length] after the cache and return their hidden states [rows, length, hidden]."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    output = model(input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden
