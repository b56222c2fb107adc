"""The figures with goals, and what ``gsi plan`` predicts for the same calls and steps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.gpu.steps import ACCEPTED, IN_TURNS, NUM_STEPS, PLAIN, PROMPT_TOKENS, REJECTED, SBON, N
from gsi.local.installed_gpus import list_gpus
from gsi.planning.architecture import Architecture, Role
from gsi.planning.gpus import GPUS, Gpu
from gsi.planning.phases import Model, Phase, read, write
from gsi.planning.published import TABLE_2
from gsi.planning.steps import SBON_TARGET, Setup, Step, Workload, plan_steps
from gsi.planning.systems import OURS

ACCEPTANCE = TABLE_2[0].acceptance  # GSI's, n = 16: a step is a mean of accepted and rejected ones by this share
GOALS = {"step_seconds": 0.30, "step_over_plain_target": 1.0}  # at most; on H100s, a model each
REHEARSED_GPU = "h100"


def choose_gpu(*, is_rehearsal: bool) -> Gpu | None:
    """Return the planner's entry for the first GPU, by NVML's name; None if the planner does not know it."""
    if is_rehearsal:
        return GPUS[REHEARSED_GPU]
    gpu = list_gpus()[0]
    return match_gpu(gpu.name, gpu.memory)


def match_gpu(name: str, memory: float) -> Gpu | None:
    """Return the entry whose name is in NVML's name and whose memory is nearest; None if no name is."""
    words = name.lower().replace("-", " ").split()
    found = [gpu for key, gpu in GPUS.items() if key.partition("-")[0] in words]
    fits = [gpu for gpu in found if gpu.name.endswith("-pcie") == ("pcie" in words)] or found
    return min(fits, key=lambda gpu: abs(gpu.memory - memory), default=None)


def summarise(steps: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """Return the figures of the steps. None where nothing was measured that a figure needs."""
    seconds = {way: figures.get("seconds_per_step") for way, figures in steps.items()}
    accepted, rejected, plain = seconds[ACCEPTED], seconds[REJECTED], seconds[PLAIN]
    step = None if accepted is None or rejected is None else ACCEPTANCE * accepted + (1 - ACCEPTANCE) * rejected
    return {
        "step_seconds": step,
        "accepted_step_seconds": accepted,
        "rejected_step_seconds": rejected,
        "plain_target_seconds": plain,
        "step_over_plain_target": _divide(step, plain),
        "step_over_sbon_target": _divide(step, seconds[SBON]),
        "scoring_hidden_share": measure_hidden(steps),
    }


def measure_hidden(steps: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the share of the scoring that hides behind the drafting, where a step is accepted.

    All of the scoring is what a step takes longer than its drafting if the models work in turn; what shows is the same
    where they overlap.
    """
    shown, whole = (
        steps[way]["seconds_per_step"] - steps[way]["drafting_seconds"] if steps[way]["steps"] else None
        for way in (ACCEPTED, IN_TURNS)
    )
    share = _divide(shown, whole)
    return None if share is None else 1 - share


def _divide(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def meet_goals(figures: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    """Return each goal with what was measured."""
    found = {name: (figures.get(name), goal) for name, goal in GOALS.items()}
    return {
        name: {"measured": measured, "at_most": goal, "met": None if measured is None else measured <= goal}
        for name, (measured, goal) in found.items()
    }


def _make_models(sizes: Mapping[Role, Architecture], gpu: Gpu) -> dict[Role, Model]:
    return {role: Model(role, size, OURS.make_processor(role, gpu, 1)) for role, size in sizes.items()}


def predict_calls(
    calls: Sequence[Mapping[str, Any]], sizes: Mapping[Role, Architecture], gpu: Gpu
) -> list[dict[str, Any]]:
    """Return each call with the seconds that the planner says, and with the floor: the same without any overhead."""
    models = _make_models(sizes, gpu)
    phases = [_plan_call(call, models[call["role"]]) for call in calls]
    return [
        {**call, "planned_seconds": phase.seconds, "floor_seconds": phase.floor_seconds}
        for call, phase in zip(calls, phases, strict=True)
    ]


def _plan_call(call: Mapping[str, Any], model: Model) -> Phase:
    rows, context, mean = call["rows"], call["context"], call["mean_tokens"]
    if call["does"] == "writes":
        return write("", model, rows=rows, mean=mean, longest=call["longest_tokens"], context=context)
    return read("", model, rows=rows, length=mean, cached=context)


def predict_steps(
    steps: Mapping[str, Mapping[str, float]], sizes: Mapping[Role, Architecture], gpu: Gpu, num_devices: int
) -> dict[str, dict[str, float]]:
    """Return each way's figures with the planner's seconds for candidates of the lengths that were measured."""
    models = _make_models(sizes, gpu)
    return {
        way: {**figures, **(_plan_way(way, figures, models, num_devices) if figures["steps"] else {})}
        for way, figures in steps.items()
    }


def _plan_way(
    way: str, figures: Mapping[str, float], models: Mapping[Role, Model], num_devices: int
) -> dict[str, float]:
    work = Workload(
        n=1 if way == PLAIN else N,
        prompt_tokens=PROMPT_TOKENS,
        step_tokens=figures["mean_tokens"],
        num_steps=NUM_STEPS,
        max_step_tokens=10**6,  # measured lengths are those after the cut
        acceptance={"gsi": 0.0 if way == REJECTED else 1.0, "rsd": 1.0},
        shortest_tokens=figures["shortest_tokens"],
        longest_tokens=figures["longest_tokens"],
    )
    system = replace(OURS, has_overlap=way != IN_TURNS)
    step: Step = plan_steps(Setup(models, system, work, num_devices))[
        {SBON: SBON_TARGET, PLAIN: "target"}.get(way, "gsi")
    ]
    return {"planned_seconds": step.seconds, "floor_seconds": step.floor_seconds}
