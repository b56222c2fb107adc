"""Process reward models that give outputs at the last token only, so that vLLM can use its prefix cache.

The reward of the last step is read at the last token, and GSI needs no other reward. vLLM's own class for
Qwen2.5-Math-PRM gives outputs at every step, which turns prefix cache and chunked prefill off.
"""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.layers.pooler import DispatchPooler
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsPP
from vllm.model_executor.models.interfaces_base import default_pooling_type
from vllm.model_executor.models.qwen2 import Qwen2Model
from vllm.model_executor.models.utils import AutoWeightsLoader, maybe_prefix
from vllm.sequence import IntermediateTensors


class _LastTokenReward(nn.Module, SupportsLoRA, SupportsPP):
    """A Qwen2 backbone and a head over the last token's hidden state [hidden] -> [outputs]."""

    is_pooling_model = True
    num_outputs: int
    hf_to_vllm_mapper = Qwen2Model.hf_to_vllm_mapper
    packed_modules_mapping: ClassVar = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        model_config = vllm_config.model_config
        self.config = model_config.hf_config
        self.config.num_labels = self.num_outputs
        self.head_dtype = model_config.head_dtype
        self.model = Qwen2Model(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors
        head = self._make_head(self.config.hidden_size).to(self.head_dtype)
        self.pooler = DispatchPooler.for_seq_cls(model_config.pooler_config, classifier=head)

    def _make_head(self, hidden_size: int) -> nn.Module:
        """Make the head; the names of its parameters are those in the checkpoints."""
        raise NotImplementedError

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.model.embed_input_ids(input_ids)
        return embedded

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        hidden: torch.Tensor | IntermediateTensors = self.model(
            input_ids, positions, intermediate_tensors, inputs_embeds
        )
        return hidden.to(self.head_dtype) if isinstance(hidden, torch.Tensor) else hidden

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        loaded: set[str] = AutoWeightsLoader(self, ignore_unexpected_prefixes=["lm_head."]).load_weights(weights)
        return loaded


@default_pooling_type(seq_pooling_type="LAST")
class Qwen2LastStepReward(_LastTokenReward):
    """Qwen2.5-Math-PRM and the PRM that ships here: two labels at the step mark, bad and good."""

    num_outputs = 2

    def _make_head(self, hidden_size: int) -> nn.Module:
        self.score = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, self.num_outputs)
        )
        return self.score


@default_pooling_type(seq_pooling_type="LAST")
class SkyworkLastStepReward(_LastTokenReward):
    """Skywork-o1-Open-PRM: one value at the step's newline."""

    num_outputs = 1

    def _make_head(self, hidden_size: int) -> nn.Module:
        self.v_head = nn.Module()
        self.v_head.summary = nn.Linear(hidden_size, self.num_outputs)
        summary: nn.Module = self.v_head.summary
        return summary
