"""The Hugging Face class of a Qwen2 process reward model (PRM): a language backbone, two labels on every token.

Its parameters carry the names of Qwen2.5-Math-PRM-7B (`model.*`, `score.0.*`, `score.2.*`), so that vLLM's own
`Qwen2ForProcessRewardModel` and this class load the same checkpoint: the shipped small one or the public one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import Cache, Qwen2Config, Qwen2Model, Qwen2PreTrainedModel
from transformers.utils import ModelOutput

NUM_LABELS = 2  # bad step, good step


@dataclass
class ProcessRewardOutput(ModelOutput):
    """Hold the logits [batch, length, 2] of one pass and the cache that a later pass may continue from."""

    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None


class Qwen2ForProcessRewardModel(Qwen2PreTrainedModel):
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

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
    ) -> ProcessRewardOutput:
        """Return logits [batch, length, 2] for token ids [batch, length]; the mask also covers the cache."""
        hidden = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        return ProcessRewardOutput(logits=self.score(hidden.last_hidden_state), past_key_values=hidden.past_key_values)
