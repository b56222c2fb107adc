"""A merged target and PRM as one model with two heads: a candidate is read once for its likelihood and its reward.

RSD paper, section B.3: "We merge only the shared layers, retaining the PRM's projection layer and the policy model's
`lm_head`." ``gsi merge`` writes such a pair; docs/decisions/0057 says when one pass can serve both.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import TokenSequence
from gsi.engines.base import SAME_AS_MODEL, STEP_DELIMITER, EngineSettings, check_length
from gsi.engines.hugging_face.reward_families import RewardFamily
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.checkpoint import load_checkpoint
from gsi.engines.on_transformers.language import TransformersEngine, describe_checkpoint, refuse_engine_args
from gsi.engines.on_transformers.last_layer import changes_logits, widen
from gsi.engines.on_transformers.metrics import CANDIDATE_READINGS
from gsi.engines.on_transformers.passes import Head, Tensor
from gsi.engines.on_transformers.prefix import Prefix, TokenIds
from gsi.engines.on_transformers.reward import TransformersRewardEngine, load_described
from gsi.engines.on_transformers.shared_layers import SharedLayers
from gsi.engines.text_threads import TextThreads
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.model_info import ModelInfo

PROBE = (Message("user", "What is 1 + 1 + 1?"),)
PROBE_STEPS = (f"1 + 1 = 2.{STEP_DELIMITER}", f"2 + 1 = 3.{STEP_DELIMITER}")


class LanguageHead(TransformersEngine):
    """The target. A candidate is read as the PRM reads it, with its mark behind it, which no token of it sees."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, layers: SharedLayers, family: RewardFamily) -> None:
        super().__init__(info, tokenizer, layers)
        self._layers = layers
        self._family = family
        self._texts = TextThreads()

    def close(self) -> None:
        self._texts.close()
        super().close()

    async def _score_together(
        self, prefix: Prefix, sampling: SamplingParams, candidates: Sequence[TokenSequence]
    ) -> list[float]:
        """Return the log-likelihood (nats) of each candidate.

        A candidate whose tokens the PRM reads otherwise has a pass of its own.
        """
        num_characters = sum(len(candidate.token_ids) for candidate in candidates)
        room = self._layers.max_length - prefix.length
        rows = await self._texts.run(num_characters, self._find_rows, candidates, room)
        others = [candidate for candidate in candidates if candidate.token_ids not in rows]
        sums = dict(
            zip((one.token_ids for one in others), await self._score_others(prefix, sampling, others), strict=True)
        )
        wanted = list(dict.fromkeys(rows.values()))
        states = dict(zip(wanted, await self._layers.read_once(prefix, wanted), strict=True))
        sums |= await self._layers.compute(
            lambda: {
                token_ids: self._sum_states(token_ids, prefix, states[row], sampling) for token_ids, row in rows.items()
            }
        )
        return [sums[candidate.token_ids] for candidate in candidates]

    async def _score_others(
        self, prefix: Prefix, sampling: SamplingParams, others: Sequence[TokenSequence]
    ) -> list[float]:
        CANDIDATE_READINGS.labels("computed").inc(len(others))
        return await super()._score_together(prefix, sampling, others) if others else []

    def _find_rows(self, candidates: Sequence[TokenSequence], room: int) -> dict[TokenIds, TokenIds]:
        """Return the PRM's row of each candidate, if it begins with what the target reads: all tokens but the last."""
        rows: dict[TokenIds, TokenIds] = {}
        for one in candidates:
            with suppress(InvalidRequestError):  # a text that the PRM refuses has a likelihood all the same
                rows[one.token_ids] = tuple(self._family.candidate(self._decode(one.token_ids)))
        return {ids: row for ids, row in rows.items() if row[: len(ids) - 1] == ids[:-1] and len(row) <= room}

    def _sum_states(self, row: TokenIds, prefix: Prefix, states: Tensor, sampling: SamplingParams) -> float:
        return self._sum_row(row, torch.cat([prefix.last_outputs.unsqueeze(0), states[: len(row) - 1]]), sampling)


class RewardHead(TransformersRewardEngine):
    """The PRM."""

    def __init__(self, info: ModelInfo, family: RewardFamily, layers: SharedLayers, head: Head) -> None:
        super().__init__(info, family, layers, head)
        self._layers = layers

    async def _rate_together(self, prefix: Prefix, candidates: Sequence[TokenIds]) -> list[float]:
        check_length(prefix.length + max(map(len, candidates)), self._layers.max_length, prefix.length)
        rows = list(dict.fromkeys(candidates))
        states = await self._layers.read_once(prefix, rows)
        rewards = await self._layers.compute(
            lambda: {row: self._read_row(row, of_row) for row, of_row in zip(rows, states, strict=True)}
        )
        return [rewards[candidate] for candidate in candidates]


async def load_two_heads(target: EngineSettings, prm: EngineSettings) -> tuple[LanguageHead, RewardHead]:
    """Load a merged target and its PRM, with one set of layers.

    Raises MisconfiguredError for checkpoints whose layers differ, and for a PRM that reads other tokens.
    """
    return await asyncio.to_thread(_load, target, prm)


def _load(target: EngineSettings, prm: EngineSettings) -> tuple[LanguageHead, RewardHead]:
    refuse_engine_args(target)
    _refuse_different_settings(target, prm)
    tokenizer = Tokenizer.load(target)
    language: Any = load_checkpoint(AutoModelForCausalLM, target)
    if changes_logits(language):  # the heads read last hidden states
        raise MisconfiguredError(
            f"{target.model} changes its logits behind its last layer; allowed: a model without a cap"
        )
    reward = load_described(prm)
    described = reward.model.pretrained
    _refuse_different_layers(target.model, language.base_model, prm.model, described.base_model)
    _refuse_different_tokens(target.model, tokenizer, prm.model, reward.family)
    info = describe_checkpoint(target, language, tokenizer, tuple(Likelihood))
    max_length = min(info.max_length, reward.info.max_length)
    if target.head_dtype != SAME_AS_MODEL:
        widen(language, getattr(torch, target.head_dtype))
    setattr(described, described.base_model_prefix, language.base_model)  # the PRM's own layers are freed
    layers = SharedLayers(language, max_length, target, _make_head(language, tokenizer.num_ids))
    reward.model.to(target.device).eval()
    return (
        LanguageHead(replace(info, max_length=max_length), tokenizer, layers, reward.family),
        RewardHead(replace(reward.info, max_length=max_length), reward.family, layers, reward.model.read_head),
    )


def _make_head(language: Any, num_ids: int) -> Head:
    """Return what makes logits of hidden states; a token id beyond the vocabulary has the logit -inf."""
    last_layer = language.get_output_embeddings()

    def make_logits(hidden: Tensor) -> Tensor:
        logits: Tensor = last_layer(hidden)
        logits[..., num_ids:] = -torch.inf
        return logits

    return make_logits


def _refuse_different_settings(target: EngineSettings, prm: EngineSettings) -> None:
    for name in ("device", "dtype"):
        if getattr(target, name) != getattr(prm, name):
            raise MisconfiguredError(
                f"GSI_PRM_{name.upper()}: {getattr(prm, name)}; allowed: {getattr(target, name)}, "
                "as of the target whose layers it shares"
            )


def _refuse_different_layers(target: str, layers: Any, prm: str, others: Any) -> None:
    """Raise MisconfiguredError unless the tensors of the layers are equal to the last bit."""
    own, other = layers.state_dict(), others.state_dict()
    different = [
        name
        for name in sorted({*own, *other})
        if not (name in own and name in other and torch.equal(own[name], other[name]))
    ]
    if different:
        raise MisconfiguredError(
            f"{len(different)} tensors of the layers of {target} and {prm} differ ({different[0]}); "
            "allowed: a target and a PRM that gsi merge wrote"
        )


def _refuse_different_tokens(target: str, tokenizer: Tokenizer, prm: str, family: RewardFamily) -> None:
    """Raise MisconfiguredError if the PRM reads a short answer otherwise than the target: nothing could be shared."""
    kept, candidate = (tokenizer.encode(step) for step in PROBE_STEPS)
    begins = [*tokenizer.render(PROBE), *kept]
    row = family.candidate(PROBE_STEPS[1])
    if family.prefix(PROBE, PROBE_STEPS[:1]) != begins or tuple(row[: len(candidate) - 1]) != candidate[:-1]:
        raise MisconfiguredError(
            f"GSI_PRM_PROFILE: by {family.profile.name} {prm} reads other tokens than {target} does; "
            "allowed: a profile with the target's chat template, and mark_kept = false or rates = answer"
        )
