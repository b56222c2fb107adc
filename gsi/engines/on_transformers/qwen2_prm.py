"""The Hugging Face classes of Qwen2 process reward models (PRM): a language backbone, and a head on every token.

Their parameters have the names of the public checkpoints, so that these classes and vLLM load the same files:
`score.0.*` and `score.2.*` for Qwen2.5-Math-PRM and the small PRM that ships here, `v_head.summary.*` for
Skywork-o1-Open-PRM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import Cache, PreTrainedModel, Qwen2Config, Qwen2Model, Qwen2PreTrainedModel
from transformers.utils import ModelOutput

NUM_LABELS = 2  # bad step, good step


@dataclass
class RewardOutput(ModelOutput):
    """The outputs [batch, length, outputs] of a forward pass, and the cache for the pass behind it."""

    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None


class _Qwen2RewardModel(Qwen2PreTrainedModel):
    """A backbone `model`; a subclass makes the head."""

    @property
    def pretrained(self) -> PreTrainedModel:
        return self

    def read_head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return outputs [batch, length, outputs] of hidden states [batch, length, hidden]."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **options: Any,
    ) -> RewardOutput:
        """Return outputs [batch, length, outputs] for token ids [batch, length]; the mask also covers the cache.

        ``options`` are for the attention.
        """
        hidden = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **options,
        )
        return RewardOutput(logits=self.read_head(hidden.last_hidden_state), past_key_values=hidden.past_key_values)


class Qwen2ForProcessRewardModel(_Qwen2RewardModel):
    """Judge reasoning steps: softmax(logits)[..., 1] at a step's `<extra_0>` token is its reward (0 to 1)."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.score = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size),
            nn.ReLU(),
            nn.Linear(config.hidden_size, NUM_LABELS),
        )
        self.post_init()

    def read_head(self, hidden: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.score(hidden)
        return outputs


class Qwen2ForPrmModel(_Qwen2RewardModel):
    """Judge reasoning steps, as Skywork-o1-Open-PRM: the sigmoid of the value at a step's newline is its reward."""

    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^lm_head\."]  # left over from the language model before training

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.v_head = nn.ModuleDict({"summary": nn.Linear(config.hidden_size, 1)})
        self.post_init()

    def read_head(self, hidden: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.v_head["summary"](hidden)
        return outputs
