"""Likelihoods of the sampling distribution: vLLM's workers divide every logit by one temperature.

vLLM reports prompt log-probabilities at temperature 1, whatever the request's: a ratio of a tempered likelihood and one
of those would compare two different things, without an error. So the temperature belongs to the engine: its logits
are divided once, behind the last layer, and all that vLLM derives from them (samples, and both kinds of
log-probabilities) speaks of the same distribution. Requests then ask for temperature 1.
"""

from typing import Any

from vllm.model_executor.layers.logits_processor import LogitsProcessor

from gsi.engines.on_vllm.inside.cpu_sampling import mend_on_cpu


class Tempering:
    """Mixed into vLLM's worker by its ``worker_extension_cls``."""

    model_runner: Any

    def mend_sampling(self) -> bool:
        """Let speculative decoding sample at the temperature that was asked for: ``cpu_sampling.py``."""
        return mend_on_cpu()

    def temper(self, temperature: float) -> int:
        """Divide the model's logits by ``temperature`` from now on; return in how many places (0: not possible)."""
        layers = [layer for layer in self.model_runner.model.modules() if isinstance(layer, LogitsProcessor)]
        for layer in layers:
            layer.scale /= temperature
        return len(layers)
