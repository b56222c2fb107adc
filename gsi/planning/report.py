"""A whole plan: each phase, each method, memory, cost and the acceptance rate at which speculation pays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gsi.planning.architecture import Architecture, Role
from gsi.planning.calls import CALLS, NAMES, find_unplanned
from gsi.planning.full_batch import FullBatch, Memory, choose_num_gpus, count_kv_tokens, plan_full_batch, plan_memory
from gsi.planning.gpus import Gpu
from gsi.planning.phases import Model, Phase, Processor, read
from gsi.planning.quantities import Missing, say_missing
from gsi.planning.steps import SBON_TARGET, Setup, Step, Workload, plan_step, plan_steps
from gsi.planning.systems import System


@dataclass(frozen=True, slots=True)
class MethodPlan:
    """What a method costs. Seconds are those of one job alone; GPU hours are for 1,000 answers."""

    step: Step
    num_gpus: int
    seconds_per_answer: float
    full_batch: FullBatch

    @property
    def gpu_hours_alone(self) -> float:
        return 1000 * self.num_gpus * self.seconds_per_answer / 3600

    @property
    def gpu_hours(self) -> float:
        """Return the GPU hours at full batch."""
        return 1000 * self.num_gpus / self.full_batch.jobs_per_hour


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The acceptance rate from which on GSI is cheaper than another method: 0 is always, None is never."""

    seconds_of_sbon_target: float | None
    seconds_of_target: float | None
    gpu_hours_of_sbon_target: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that ``gsi plan`` shows."""

    setup: Setup
    gpu: Gpu
    memory: Mapping[Role, Memory]
    methods: Mapping[str, MethodPlan]
    unplanned: Mapping[str, tuple[Missing, ...]]  # methods without a plan, with what is missing; none: their calls
    break_even: BreakEven


def make_plan(
    architectures: Mapping[Role, Architecture],
    gpu: Gpu,
    system: System,
    workload: Workload,
    *,
    is_shared: bool = False,
    names: Iterable[str] = NAMES,
) -> Plan:
    """Plan every method that can be planned, and say of the others in ``names`` why not.

    Raises InvalidRequestError if the models do not fit, or for a quantity that a method cannot have.
    """
    bare = {role: Model(role, one, system.make_processor(role, gpu, 1)) for role, one in architectures.items()}
    kv_tokens = count_kv_tokens(Setup(bare, system, workload))
    num_gpus = {
        role: 1 if is_shared else choose_num_gpus(f"--{role}", model, gpu, kv_tokens) for role, model in bare.items()
    }
    models = {
        role: replace(model, processor=system.make_processor(role, gpu, num_gpus[role])) for role, model in bare.items()
    }
    setup = Setup(models, system, workload, num_devices=1 if is_shared else len(models))
    memory = plan_memory(setup, gpu, num_gpus)
    methods = {name: _plan_method(setup, step, memory) for name, step in plan_steps(setup).items()}
    unplanned = dict(find_unplanned(workload.given, names))
    return Plan(setup, gpu, memory, methods, unplanned, _find_break_even(setup, methods, memory))


def _plan_method(setup: Setup, step: Step, memory: Mapping[Role, Memory]) -> MethodPlan:
    num_gpus = 1 if setup.is_shared else sum(memory[role].num_gpus for role in step.roles)
    prompt = dict.fromkeys(step.roles, 0.0)
    for model in step.models:
        prompt[model.role] += read("", model, rows=1, length=setup.workload.prompt_tokens, cached=0.0).seconds
    reading = (sum if setup.is_shared else max)(prompt.values())
    seconds = reading + setup.workload.num_steps * (step.seconds + setup.system.seconds_per_step)
    return MethodPlan(step, num_gpus, seconds, plan_full_batch(setup, step, memory))


def _find_break_even(setup: Setup, methods: Mapping[str, MethodPlan], memory: Mapping[Role, Memory]) -> BreakEven:
    gsi, sbon = methods["gsi"].step, methods[SBON_TARGET]
    return BreakEven(
        seconds_of_sbon_target=gsi.break_even(sbon.step.seconds),
        seconds_of_target=gsi.break_even(methods["target"].step.seconds),
        gpu_hours_of_sbon_target=_find_cost_break_even(setup, sbon.gpu_hours, memory),
    )


def _find_cost_break_even(setup: Setup, gpu_hours: float, memory: Mapping[Role, Memory]) -> float | None:
    """Return the acceptance at which GSI costs so many GPU hours at full batch, by bisection: cost falls with it."""

    def costs_more(acceptance: float) -> bool:
        work = replace(setup.workload, acceptance={**setup.workload.acceptance, "gsi": acceptance})
        step = plan_step(replace(setup, workload=work), "gsi")
        return _plan_method(replace(setup, workload=work), step, memory).gpu_hours > gpu_hours

    low, high = 0.0, 1.0
    if costs_more(high):
        return None
    if not costs_more(low):
        return low
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if costs_more(middle) else (low, middle)
    return high


def to_json(plan: Plan, dollars_per_hour: float | None = None) -> dict[str, Any]:
    """Return a plan as JSON values: bytes, FLOPs and seconds, unrounded."""
    work = plan.setup.workload
    return {
        "gpu": {name: getattr(plan.gpu, name) for name in ("name", "flops", "bandwidth", "memory", "source")},
        "system": plan.setup.system.name,
        "one_gpu": plan.setup.is_shared,
        "workload": {name: getattr(work, name) for name in (*Workload.__slots__, "context", "longest")},
        "models": {role: _model_to_json(model, plan.memory[role]) for role, model in plan.setup.models.items()},
        "methods": {name: _method_to_json(one, dollars_per_hour) for name, one in plan.methods.items()},
        "unplanned": {label: say_missing(missing, label) for label, missing in plan.unplanned.items()},
        "break_even_acceptance": {name: getattr(plan.break_even, name) for name in BreakEven.__slots__},
    }


def _model_to_json(model: Model, memory: Memory) -> dict[str, Any]:
    architecture = model.architecture
    return {
        "name": architecture.name,
        "parameters": architecture.num_parameters,
        "weight_bytes": memory.weights,
        "kv_bytes_per_token": model.kv_bytes,
        "flops_per_token": architecture.count_flops(0.0) + architecture.flops_per_output,
        "gpus": memory.num_gpus,
        "usable_memory_bytes": memory.usable,
        "kv_bytes_per_job": memory.kv_per_job,
        "reached": {name: getattr(model.processor, name) for name in Processor.__slots__},
    }


def _method_to_json(one: MethodPlan, dollars_per_hour: float | None) -> dict[str, Any]:
    return {
        "phases": [_phase_to_json(phase) for phase in one.step.phases],
        "acceptance": one.step.acceptance if CALLS[one.step.method].needs_share else None,
        "seconds_per_step": one.step.seconds,
        "floor_seconds_per_step": one.step.floor_seconds,
        "seconds_per_answer": one.seconds_per_answer,
        "gpus": one.num_gpus,
        "jobs_per_hour_full_batch": one.full_batch.jobs_per_hour,
        "jobs_at_once": one.full_batch.jobs_at_once,
        "bottleneck": one.full_batch.bottleneck,
        "busy_seconds_per_answer": dict(one.full_batch.busy_seconds),
        "gpu_hours_per_1000_answers": {"one_job": one.gpu_hours_alone, "full_batch": one.gpu_hours},
        "dollars_per_1000_answers": None
        if dollars_per_hour is None
        else {"one_job": dollars_per_hour * one.gpu_hours_alone, "full_batch": dollars_per_hour * one.gpu_hours},
    }


def _phase_to_json(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "role": phase.role,
        "share_of_steps": phase.share,
        "tokens": phase.tokens,
        "passes": phase.passes,
        "bytes": phase.num_bytes,
        "flops": phase.flops,
        "flops_per_byte": phase.intensity,
        "bound_by": "compute" if phase.is_compute_bound else "memory bandwidth",
        "seconds": phase.seconds,
        "floor_seconds": phase.floor_seconds,
    }
