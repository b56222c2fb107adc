"""Likelihoods of the sampling distribution: vLLM's workers divide every logit by one temperature.

vLLM reports log-probabilities of prompt tokens at temperature 1, whatever the request asks for. A ratio of such a
number and a likelihood at the sampling temperature would compare two different laws, without an error. So the engine
has one temperature: the workers divide the logits by it once, behind the last layer, and everything that vLLM derives
from the logits (samples, and both kinds of log-probabilities) follows the same law. Requests ask for temperature 1.

The workers also hide the ids that no token has. A model's last layer is often wider than its vocabulary, and what is
sampled beyond it has no text, and no meaning for a model with another width.
"""

from enum import StrEnum
from typing import Any

import torch
from torch import nn
from vllm.distributed import get_pp_group
from vllm.model_executor.layers.logits_processor import LogitsProcessor

from gsi.engines.on_vllm.inside.cpu_sampling import mend_on_cpu

PROBE_SIZES = (1.0, 1e3)  # of hidden states: a cap on the logits shows where they are large
PROBE_TOLERANCE = 0.02  # of the largest logit, in half precision; a cap behind the scale is off by tenths


class Tempered(StrEnum):
    """What became of a worker's logits."""

    EXACTLY = "exactly"  # each logit is divided by the temperature
    NOT_EXACTLY = "not exactly"  # the model changes its logits after they are divided
    NOT_AT_ALL = "not at all"  # no layer scales logits
    ELSEWHERE = "elsewhere"  # this worker has no logits; another one has


class Tempering:
    """Methods that vLLM adds to its workers (``worker_extension_cls``)."""

    model_runner: Any

    def mend_sampling(self) -> bool:
        """Let speculative decoding on a CPU sample at the right temperature: ``cpu_sampling.py``."""
        return mend_on_cpu()

    def temper(self, temperature: float) -> str:
        """Divide the model's logits by ``temperature`` from now on; return a value of ``Tempered``."""
        layers = self._logits_layers()
        before = self._probe()
        for layer in layers:
            layer.scale /= temperature
        after = self._probe()
        if before is None or after is None:
            return Tempered.ELSEWHERE.value
        if not layers:
            return Tempered.NOT_AT_ALL.value
        return (Tempered.EXACTLY if is_divided(before, after, temperature) else Tempered.NOT_EXACTLY).value

    def hide_padding(self, num_ids: int) -> int:
        """Never sample a token id of ``num_ids`` or above; return how many layers hide them (0: not possible)."""

        def hide(_layer: nn.Module, _inputs: Any, logits: torch.Tensor | None) -> None:
            if logits is not None:  # only one of several workers has the logits
                logits[..., num_ids:] = -torch.inf

        layers = self._logits_layers()
        for layer in layers:
            layer.register_forward_hook(hide)
        return len(layers)

    def _logits_layers(self) -> list[LogitsProcessor]:
        return [layer for layer in self.model_runner.get_model().modules() if isinstance(layer, LogitsProcessor)]

    @torch.inference_mode()
    def _probe(self) -> torch.Tensor | None:
        """Return the logits [rows, vocabulary] of random hidden states, small and large; None if they are elsewhere."""
        if not get_pp_group().is_last_rank:
            return None
        config = self.model_runner.model_config
        rows = torch.randn(4, config.get_hidden_size(), generator=torch.Generator().manual_seed(0))
        hidden = torch.cat([rows * size for size in PROBE_SIZES]).to(self.model_runner.device, config.dtype)
        logits = self.model_runner.get_model().compute_logits(hidden)
        return None if logits is None else logits.double()


def is_divided(before: torch.Tensor, after: torch.Tensor, temperature: float) -> bool:
    """Return whether the logits [rows, vocabulary] ``after`` are those ``before``, divided by ``temperature``.

    A model that caps its logits behind the layer that divides them fails: its large logits stay at the cap.
    """
    error = (after * temperature - before).abs().amax(dim=-1)
    return bool((error <= PROBE_TOLERANCE * before.abs().amax(dim=-1)).all())  # NaN compares as false
