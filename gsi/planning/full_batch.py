"""How many GPUs the models need, and how many jobs an hour they answer when enough jobs share them."""

from collections.abc import Mapping
from dataclasses import dataclass

from gsi.errors import InvalidRequestError
from gsi.planning.architecture import Role
from gsi.planning.gpus import Gpu
from gsi.planning.phases import MAX_PASS_TOKENS, Model, Phase, read, write
from gsi.planning.steps import Setup, Step
from gsi.planning.systems import ContextReading

# vLLM's default of gpu_memory_utilization: the rest is for activations and CUDA graphs.
USABLE_MEMORY = 0.9
# vLLM's default of max_num_seqs: the rows of a decode pass.
MAX_ROWS = 256
# Tensor parallelism over more GPUs than a node has needs another plan than this one.
PARALLEL_SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Memory:
    """GPU memory of a model, in bytes: over all of its GPUs, or its share of the GPU that all models share."""

    num_gpus: int
    usable: float
    weights: float
    kv_per_job: float

    @property
    def kv_room(self) -> float:
        return self.usable - self.weights

    @property
    def max_jobs(self) -> int:
        """Return the number of jobs whose KV cache fits."""
        return int(self.kv_room // self.kv_per_job)


@dataclass(frozen=True, slots=True)
class FullBatch:
    """A method when each pass is full: jobs an hour of one set of GPUs, and the role whose GPU is always busy."""

    jobs_per_hour: float
    jobs_at_once: int
    bottleneck: Role
    busy_seconds: Mapping[Role, float]  # of each role's GPU, for one answer


def choose_num_gpus(option: str, model: Model, gpu: Gpu, kv_tokens: float) -> int:
    """Return the least number of GPUs that hold a model and one job's KV cache. Raises InvalidRequestError."""
    needed = model.weight_bytes + kv_tokens * model.kv_bytes
    for size in PARALLEL_SIZES:
        if needed <= size * USABLE_MEMORY * gpu.memory:
            return size
    raise InvalidRequestError(
        f"--gpu: {gpu.name} has {gpu.memory / 1e9:.0f} GB, too little for {option} ({needed / 1e9:.0f} GB) on "
        f"{PARALLEL_SIZES[-1]} GPUs; allowed: a larger GPU"
    )


def count_kv_tokens(setup: Setup) -> float:
    """Return the tokens of a job in the KV cache: its context once, and the candidates of a step."""
    return setup.workload.context + setup.workload.n * setup.workload.mean


def plan_memory(setup: Setup, gpu: Gpu, num_gpus: Mapping[Role, int]) -> dict[Role, Memory]:
    """Return the memory of each model. Models that share a GPU share equally what their weights leave.

    Raises InvalidRequestError if they do not fit.
    """
    kv_tokens = count_kv_tokens(setup)
    weights = {role: model.weight_bytes for role, model in setup.models.items()}
    left = (USABLE_MEMORY * gpu.memory - sum(weights.values())) / len(weights)
    memory = {}
    for role, model in setup.models.items():
        usable = weights[role] + left if setup.is_shared else num_gpus[role] * USABLE_MEMORY * gpu.memory
        memory[role] = Memory(num_gpus[role], usable, weights[role], kv_tokens * model.kv_bytes)
        if memory[role].max_jobs < 1:
            raise InvalidRequestError(
                f"--one-gpu: {gpu.name} has {gpu.memory / 1e9:.0f} GB, too little for weights of "
                f"{sum(weights.values()) / 1e9:.0f} GB and the KV cache of a job; allowed: a GPU each, or a larger GPU"
            )
    return memory


def plan_full_batch(setup: Setup, step: Step, memory: Mapping[Role, Memory]) -> FullBatch:
    """Return how many answers of a method one set of GPUs gives in an hour, with as many jobs as its passes hold."""
    n = step.num_rows
    rows = max(1, min(MAX_ROWS // n, *(_count_jobs(setup, step, memory[role], role) for role in step.roles))) * n
    busy: dict[Role, float] = dict.fromkeys(step.roles, 0.0)
    for phase in step.phases:
        spread = _spread_writing(setup, phase, rows) if phase.is_writing else _spread_reading(setup, phase)
        busy[phase.role] += setup.workload.num_steps * phase.share * spread
    for model in step.models:  # the prompt is read once by each model
        busy[model.role] += _seconds_per_row(model, setup.workload.prompt_tokens, 0.0)
    total = sum(busy.values()) if setup.is_shared else max(busy.values())
    return FullBatch(3600 / total, rows // n, max(busy, key=lambda role: busy[role]), busy)


def _count_jobs(setup: Setup, step: Step, memory: Memory, role: Role) -> int:
    """Return the jobs of a method whose KV cache fits: each trajectory keeps its own context.

    A lower bound of the jobs: trajectories share the prompt, and some share their first steps.
    """
    work = setup.workload
    kv_tokens = step.num_trajectories * work.context + step.num_rows * work.mean
    models = [model for model in step.models if model.role == role]
    of_others = sum(model.weight_bytes for model in models if model != setup.models[role])
    return int((memory.kv_room - of_others) // (kv_tokens * sum(model.kv_bytes for model in models)))


def _spread_writing(setup: Setup, phase: Phase, rows: int) -> float:
    """Return the seconds of decode passes that a job's candidates take up when ``rows`` candidates share each pass."""
    behind, block = setup.workload.context + setup.workload.mean / 2, phase.tokens_per_pass
    if block == 1:
        one_pass = write("", phase.model, rows=rows, mean=1.0, longest=1.0, context=behind)
    else:
        one_pass = read("", phase.model, rows=rows, length=block, cached=behind)
    return phase.tokens / block * one_pass.seconds / rows


def _spread_reading(setup: Setup, phase: Phase) -> float:
    """Return the seconds of full passes that reading a job's candidates takes up."""
    is_cached = setup.system.context_reading is not ContextReading.PER_CANDIDATE
    cached = setup.workload.context if is_cached else 0.0
    return phase.rows * _seconds_per_row(phase.model, phase.tokens / phase.rows, cached)


def _seconds_per_row(model: Model, length: float, cached: float) -> float:
    rows = max(1, int(MAX_PASS_TOKENS // length))
    return read("", model, rows=rows, length=length, cached=cached).seconds / rows
