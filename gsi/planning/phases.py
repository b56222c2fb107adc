"""A phase of a step: passes of one model, with their bytes, FLOPs and seconds by the roofline."""

import math
from dataclasses import dataclass, replace

from gsi.planning.architecture import Architecture, Role

# vLLM's default of max_num_batched_tokens on GPUs of this class: a longer prefill takes another pass over the weights.
MAX_PASS_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Processor:
    """The rates at which a model runs, as reached and not as printed.

    ``flops`` and ``bandwidth`` (bytes) are per second. ``seconds_per_pass`` is what a forward pass costs more than
    these rates say: scheduler, launches, sampler, detokeniser. ``seconds_per_token`` is host work on each token that is
    written. ``bytes_per_value`` is the size of a weight and of a number in the KV cache.
    """

    flops: float
    bandwidth: float
    seconds_per_pass: float = 0.0
    seconds_per_token: float = 0.0
    bytes_per_value: int = 2


@dataclass(frozen=True, slots=True)
class Model:
    """A model in its role, on what runs it."""

    role: Role
    architecture: Architecture
    processor: Processor

    @property
    def weight_bytes(self) -> float:
        return self.architecture.num_parameters * self.processor.bytes_per_value

    @property
    def kv_bytes(self) -> float:
        """Return the bytes of the KV cache that a token takes."""
        return self.architecture.num_kv_values * self.processor.bytes_per_value

    @property
    def pass_bytes(self) -> float:
        """Return the bytes of weights that a pass reads."""
        return self.architecture.num_values_read * self.processor.bytes_per_value


@dataclass(frozen=True, slots=True)
class Phase:
    """What one model does in a step. ``share`` is how often the phase happens in a step: 1, or the rejected share.

    Figures are those of one occurrence.
    """

    name: str
    role: Role
    tokens: float
    passes: float
    num_bytes: float
    flops: float
    seconds: float
    floor_seconds: float  # at the same rates without any overhead
    is_compute_bound: bool
    is_writing: bool
    share: float = 1.0

    @property
    def intensity(self) -> float:
        """Return the arithmetic intensity in FLOPs a byte."""
        return self.flops / self.num_bytes

    def at(self, share: float) -> "Phase":
        return replace(self, share=share)


def write(name: str, model: Model, *, rows: float, mean: float, longest: float, context: float) -> Phase:
    """Return the phase in which ``rows`` candidates are written behind ``context`` tokens: decode.

    Each pass reads the weights once and writes one token of every candidate that is not finished, so there are as many
    passes as the longest candidate has tokens. Each token reads the keys and values of what stands before it.
    """
    tokens, behind = rows * mean, context + mean / 2
    num_bytes = longest * model.pass_bytes + tokens * behind * model.kv_bytes
    flops = tokens * (model.architecture.count_flops(behind) + model.architecture.flops_per_output)
    return _make_phase(name, model, tokens, longest, num_bytes, flops, is_writing=True)


def read(
    name: str,
    model: Model,
    *,
    rows: float,
    length: float,
    cached: float,
    least_passes: float = 1.0,
    outputs: float | None = None,
) -> Phase:
    """Return the phase in which ``rows`` sequences of ``length`` tokens are read: prefill, or scoring in one pass.

    ``cached`` tokens before each sequence are in the KV cache, and are read from there. The output of every token is
    wanted, as scoring does, unless ``outputs`` says of how many; a reward model's is small. Sequences that come at
    different times take ``least_passes``.
    """
    tokens = rows * length
    passes = max(least_passes, math.ceil(tokens / MAX_PASS_TOKENS))
    num_bytes = passes * model.pass_bytes + tokens * model.kv_bytes + rows * cached * model.kv_bytes
    wanted = 0.0 if model.architecture.is_reward else (tokens if outputs is None else outputs)
    flops = tokens * model.architecture.count_flops(cached + length / 2) + wanted * model.architecture.flops_per_output
    return _make_phase(name, model, tokens, passes, num_bytes, flops, is_writing=False)


def _make_phase(
    name: str, model: Model, tokens: float, passes: float, num_bytes: float, flops: float, *, is_writing: bool
) -> Phase:
    processor = model.processor
    by_memory, by_compute = num_bytes / processor.bandwidth, flops / processor.flops
    floor = max(by_memory, by_compute)
    host = tokens * processor.seconds_per_token if is_writing else 0.0
    seconds = floor + passes * processor.seconds_per_pass + host
    is_compute_bound = by_compute > by_memory
    return Phase(name, model.role, tokens, passes, num_bytes, flops, seconds, floor, is_compute_bound, is_writing)
