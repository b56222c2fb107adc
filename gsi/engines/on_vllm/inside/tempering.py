"""Likelihoods of the sampling distribution: vLLM's workers divide every logit by one temperature.

vLLM reports log-probabilities of prompt tokens at temperature 1, whatever the request asks for. A ratio of such a
number and a likelihood at the sampling temperature would compare two different laws, without an error. So the engine
has one temperature: the workers divide the logits by it once, behind the last layer, and everything that vLLM derives
from the logits (samples, and both kinds of log-probabilities) follows the same law. Requests ask for temperature 1.
"""

from typing import Any

from vllm.model_executor.layers.logits_processor import LogitsProcessor

from gsi.engines.on_vllm.inside.cpu_sampling import mend_on_cpu


class Tempering:
    """Methods that vLLM adds to its workers (``worker_extension_cls``)."""

    model_runner: Any

    def mend_sampling(self) -> bool:
        """Let speculative decoding on a CPU sample at the right temperature: ``cpu_sampling.py``."""
        return mend_on_cpu()

    def temper(self, temperature: float) -> int:
        """Divide the model's logits by ``temperature`` from now on; return how many layers do so (0: not possible)."""
        layers = [layer for layer in self.model_runner.model.modules() if isinstance(layer, LogitsProcessor)]
        for layer in layers:
            layer.scale /= temperature
        return len(layers)
