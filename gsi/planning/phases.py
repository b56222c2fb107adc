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
class Speculation:
    """Speculative decoding: a drafter writes ``num_tokens`` ahead, of which the model accepts each with a probability.

    ``acceptance`` is that of a drafted token behind accepted ones, alpha of Leviathan et al., *Fast Inference from
    Transformers via Speculative Decoding*, 2023; ``num_tokens`` is their gamma.
    """

    num_tokens: int
    acceptance: float

    @property
    def tokens_per_cycle(self) -> float:
        """Return the expected new tokens of a pass of the model: (1 - alpha^(gamma + 1)) / (1 - alpha), equation 1."""
        return sum(self.acceptance**power for power in range(self.num_tokens + 1))


@dataclass(frozen=True, slots=True)
class Phase:
    """What one model does in a step. ``share`` is how often the phase happens in a step: 1, or the rejected share.

    Figures are those of one occurrence. ``rows`` are its sequences; where it writes, each has ``tokens_per_pass`` in
    a pass. The model's role says on whose GPUs it runs.
    """

    name: str
    model: Model
    rows: float
    tokens: float
    passes: float
    num_bytes: float
    flops: float
    seconds: float
    floor_seconds: float  # at the same rates without any overhead
    is_compute_bound: bool
    is_writing: bool
    share: float = 1.0
    tokens_per_pass: float = 1.0

    @property
    def role(self) -> Role:
        return self.model.role

    @property
    def intensity(self) -> float:
        """Return the arithmetic intensity in FLOPs a byte."""
        return self.flops / self.num_bytes

    def times(self, share: float) -> "Phase":
        """Return the phase if what it is part of happens in this share of the steps."""
        return replace(self, share=self.share * share)


def write(name: str, model: Model, *, rows: float, mean: float, longest: float, context: float) -> Phase:
    """Return the phase in which ``rows`` candidates are written behind ``context`` tokens: decode.

    Each pass reads the weights once and writes one token of every candidate that is not finished, so there are as many
    passes as the longest candidate has tokens. Each token reads the keys and values of what stands before it.
    """
    tokens, behind = rows * mean, context + mean / 2
    num_bytes = longest * model.pass_bytes + tokens * behind * model.kv_bytes
    flops = tokens * (model.architecture.count_flops(behind) + model.architecture.flops_per_output)
    return _make_phase(name, model, rows, tokens, longest, num_bytes, flops, is_writing=True)


def write_speculatively(
    name: str,
    model: Model,
    drafter: Model,
    speculation: Speculation,
    *,
    rows: float,
    mean: float,
    longest: float,
    context: float,
) -> tuple[Phase, Phase]:
    """Return the phases in which ``rows`` candidates are written by speculative decoding, on the GPUs of ``model``.

    The drafter writes tokens ahead, one a pass. Then one pass of the model reads them and the token before them, and
    gives so many new tokens as ``Speculation`` expects.
    """
    drafter, behind = replace(drafter, role=model.role, processor=model.processor), context + mean / 2
    cycles, of_longest = mean / speculation.tokens_per_cycle, longest / speculation.tokens_per_cycle
    ahead, block = speculation.num_tokens * cycles, speculation.num_tokens + 1
    drafting = write(
        f"draft drafts for the {model.role}",
        drafter,
        rows=rows,
        mean=ahead,
        longest=speculation.num_tokens * of_longest,
        context=behind - ahead / 2,
    )
    verifying = read(name, model, rows=rows * cycles, length=block, cached=behind, least_passes=of_longest)
    host = rows * mean * model.processor.seconds_per_token
    return drafting, replace(
        verifying, rows=rows, is_writing=True, tokens_per_pass=block, seconds=verifying.seconds + host
    )


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
    return _make_phase(name, model, rows, tokens, passes, num_bytes, flops, is_writing=False)


def _make_phase(
    name: str,
    model: Model,
    rows: float,
    tokens: float,
    passes: float,
    num_bytes: float,
    flops: float,
    *,
    is_writing: bool,
) -> Phase:
    processor = model.processor
    by_memory, by_compute = num_bytes / processor.bandwidth, flops / processor.flops
    floor = max(by_memory, by_compute)
    host = tokens * processor.seconds_per_token if is_writing else 0.0
    seconds = floor + passes * processor.seconds_per_pass + host
    is_compute_bound = by_compute > by_memory
    return Phase(name, model, rows, tokens, passes, num_bytes, flops, seconds, floor, is_compute_bound, is_writing)
