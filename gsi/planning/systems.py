"""Two systems that run the methods, and how well each uses a GPU: the constants of the planner, few and named."""

from dataclasses import dataclass, replace
from enum import Enum, auto

from gsi.planning.architecture import Role
from gsi.planning.gpus import Gpu
from gsi.planning.phases import Processor

# Not fitted. The share of the datasheet's bandwidth that a decode pass reaches. 0.6 to 0.85 is usual for a language
# model's kernels (model bandwidth utilisation); the fit moves little with it, as docs/performance.md shows.
BANDWIDTH_EFFICIENCY = 0.70
# Not fitted. The share of the datasheet's FLOPs that a prefill of thousands of tokens reaches. Pope et al.,
# *Efficiently Scaling Transformer Inference*, 2022, report 0.76 for large batches (abstract).
COMPUTE_EFFICIENCY = 0.60

# The three constants below are fitted to the eight figures of the GSI paper's Table 2 (published.py) by least squares
# of the relative errors; tests/planning/test_published.py holds them to the minimum.

# What a decode pass costs more than the roofline says: scheduler, launches, sampler over 152,000 logits a row,
# detokeniser. Plausible: a few milliseconds for vLLM 0.8.5, which the authors' requirements.txt pins, at 16 to 64 rows.
SECONDS_PER_PASS = 0.0034
# The share of the datasheet's FLOPs at which the PRM read candidates. Plausible: below COMPUTE_EFFICIENCY, because the
# stock class pools by step, which forbids chunked prefill, CUDA graphs and the cache (decision 0007), and the authors'
# code runs it on vLLM's older engine. It also holds what the model leaves out: tokenising each text twice, for example.
PRM_COMPUTE_EFFICIENCY = 0.283
# The tokens of an answer, which the paper does not state. Less sure than the others: it moves against SECONDS_PER_PASS.
ANSWER_TOKENS = 326.0


class ContextReading(Enum):
    """How often a scorer reads the context of a step, which is the prompt and the kept steps."""

    NEVER = auto()  # a prefix cache keeps it from step to step, with the candidate that became the last step
    LAST_STEP = auto()  # a prefix cache keeps what was read as a prefix, so a request reads the last step
    PER_CANDIDATE = auto()


@dataclass(frozen=True, slots=True)
class System:
    """How a system runs a step.

    ``has_overlap``: target and PRM score what is finished while the draft still writes. ``is_padded``: the PRM reads
    each candidate as long as the longest one. ``reads_before_writing``: a writer reads the context at each step.
    ``seconds_per_call`` is the cost of asking a writer, outside the model, ``seconds_per_scoring`` the same of scorers,
    which are asked together, and ``seconds_per_step`` the cost of a step outside its calls. ``compute``,
    ``prm_compute`` (the PRM's) and ``bandwidth`` are shares of the datasheet's rates.
    """

    name: str
    context_reading: ContextReading
    has_overlap: bool
    is_padded: bool = False
    reads_before_writing: bool = False
    prm_compute: float = COMPUTE_EFFICIENCY
    compute: float = COMPUTE_EFFICIENCY
    bandwidth: float = BANDWIDTH_EFFICIENCY
    seconds_per_pass: float = SECONDS_PER_PASS
    seconds_per_call: float = 0.0
    seconds_per_scoring: float = 0.0
    seconds_per_step: float = 0.0

    def make_processor(self, role: Role, gpu: Gpu, num_gpus: int) -> Processor:
        """Return the rates that a model reaches on its GPUs. Several GPUs share a model without loss."""
        compute = self.prm_compute if role == "prm" else self.compute
        return Processor(
            flops=compute * gpu.flops * num_gpus,
            bandwidth=self.bandwidth * gpu.bandwidth * num_gpus,
            seconds_per_pass=self.seconds_per_pass,
        )


# GSI paper, section 4, *Implementation*: vLLM for all models, each on an H100 of its own; one problem at a time, draft,
# then PRM, then target, as the code that its authors published shows. That code turns prefix caching on, but vLLM
# ignores the cache where it reports log-probabilities of prompts, and for its stock class of the PRM; so writing has a
# cache and scoring has none. The code pads the texts for the PRM to the longest and decodes the padding back to text.
PAPER = System(
    "paper", ContextReading.PER_CANDIDATE, has_overlap=False, is_padded=True, prm_compute=PRM_COMPUTE_EFFICIENCY
)

# This repository on vLLM: decision 0007 (the suffix alone is scored) and docs/algorithm.md (scoring by streams).
OURS = System("ours", ContextReading.NEVER, has_overlap=True)

SYSTEMS = {system.name: system for system in (OURS, PAPER)}


def set_overhead(system: System, seconds_per_pass: float) -> System:
    """Return a system whose passes have this overhead. At 0 its seconds are the floor."""
    return replace(system, seconds_per_pass=seconds_per_pass)
