"""``gsi plan``: what speculation would cost and gain on GPUs, before one rents them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gsi.algorithm.methods import METHODS
from gsi.cli.terminal import explain_errors, out, print_json
from gsi.errors import InvalidRequestError
from gsi.planning.architecture import Role, find_architecture
from gsi.planning.calls import CALLS
from gsi.planning.gpus import find_gpu
from gsi.planning.phases import Phase
from gsi.planning.published import (
    MAX_STEP_TOKENS,
    PAPER_MODELS,
    PROMPT_TOKENS,
    TABLE_2,
    Published,
    predict,
    relative_error,
)
from gsi.planning.report import MethodPlan, Plan, make_plan, to_json
from gsi.planning.steps import SBON_TARGET, Workload
from gsi.planning.systems import ANSWER_TOKENS, OURS, SECONDS_PER_PASS, SYSTEMS, set_overhead
from gsi.suggestions import list_names

GSI_ROW, RSD_ROW = TABLE_2[0], TABLE_2[1]  # n = 16: the defaults of steps and acceptance
ModelName = Annotated[str, typer.Option(help="A named model, or a folder with its config.json.")]


def plan(
    draft: ModelName = PAPER_MODELS["draft"],
    target: ModelName = PAPER_MODELS["target"],
    prm: ModelName = PAPER_MODELS["prm"],
    gpu: Annotated[str, typer.Option(help="The GPU of each model: a100, h100, h200, b200, l4, l40s, …")] = "h100",
    n: Annotated[int, typer.Option(min=1, max=1024, help="Candidates a step.")] = 16,
    acceptance: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of steps that GSI accepts; the paper's 0.91 if not given.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of gsi calibrate, whose recommended setting gives the acceptance.")
    ] = None,
    rsd_acceptance: Annotated[float, typer.Option(min=0, max=1, help="The same of RSD.")] = RSD_ROW.acceptance,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD=SHARE", help="The same of another method that may reject; may be repeated."),
    ] = None,
    steps: Annotated[float, typer.Option(min=1, help="Steps of an answer.")] = GSI_ROW.num_steps,
    step_tokens: Annotated[float, typer.Option(min=1, help="Mean tokens of a step.")] = round(
        ANSWER_TOKENS / GSI_ROW.num_steps, 1
    ),
    prompt_tokens: Annotated[float, typer.Option(min=1, help="Tokens of a prompt.")] = PROMPT_TOKENS,
    max_step_tokens: Annotated[int, typer.Option(min=1, help="Tokens at which a step is cut.")] = MAX_STEP_TOKENS,
    system: Annotated[str, typer.Option(help="ours: cache and overlap; paper: neither.")] = OURS.name,
    overhead_ms: Annotated[
        float, typer.Option(min=0, help="What a pass costs beside the GPU's work; 0 is the floor.")
    ] = 1000 * SECONDS_PER_PASS,
    one_gpu: Annotated[bool, typer.Option("--one-gpu", help="The three models share one GPU.")] = False,
    price: Annotated[float | None, typer.Option(min=0, help="Dollars for an hour of one GPU.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="The paper's seconds beside the planner's, and nothing else.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what a step and an answer would take on GPUs, by the roofline: phases, memory, jobs an hour, break-even."""
    with explain_errors():
        if published:
            _print_published(as_json=as_json)
            return
        if system not in SYSTEMS:
            raise InvalidRequestError(f"--system: {system} is not allowed; allowed: {list_names(system, SYSTEMS)}")
        _check_numbers(
            acceptance=acceptance,
            rsd_acceptance=rsd_acceptance,
            steps=steps,
            step_tokens=step_tokens,
            prompt_tokens=prompt_tokens,
            overhead_ms=overhead_ms,
            price=price,
        )
        accepted = {
            "gsi": _choose_acceptance(acceptance, calibration),
            "rsd": rsd_acceptance,
            **_read_shares(accept or ()),
        }
        given: dict[Role, str] = {"draft": draft, "target": target, "prm": prm}
        made = make_plan(
            {role: find_architecture(role, name) for role, name in given.items()},
            find_gpu("--gpu", gpu),
            set_overhead(SYSTEMS[system], overhead_ms / 1000),
            Workload(n, prompt_tokens, step_tokens, steps, max_step_tokens, accepted),
            is_shared=one_gpu,
            names=METHODS,
        )
        if as_json:
            print_json(to_json(made, price))
            return
        _print_plan(made, price)


def _check_numbers(**given: float | None) -> None:
    """Raise InvalidRequestError for infinity, which no range excludes."""
    for name, value in given.items():
        if value is not None and not math.isfinite(value):
            raise InvalidRequestError(f"--{name.replace('_', '-')}: {value} is not allowed; allowed: a finite number")


def _choose_acceptance(acceptance: float | None, calibration: Path | None) -> float:
    if acceptance is not None and calibration is not None:
        raise InvalidRequestError("--acceptance and --calibration are both given; allowed: one of them")
    if calibration is None:
        return GSI_ROW.acceptance if acceptance is None else acceptance
    return read_acceptance(calibration)


def _read_shares(given: Sequence[str]) -> dict[str, float]:
    """Return the shares that ``--accept`` gives, by method. Raises InvalidRequestError."""
    allowed = [label for label, calls in CALLS.items() if calls.needs_share and label not in {"gsi", "rsd"}]
    shares = {}
    for text in given:
        label, _, number = text.partition("=")
        if label not in allowed:
            names = list_names(label, allowed) if allowed else "none"
            raise InvalidRequestError(f"--accept: {label} is not allowed; allowed: {names}")
        try:
            shares[label] = float(number)
        except ValueError:
            shares[label] = math.nan
        if not 0 <= shares[label] <= 1:
            raise InvalidRequestError(f"--accept: {text} is not allowed; allowed: {label}=SHARE, a number from 0 to 1")
    return shares


def read_acceptance(folder: Path) -> float:
    """Return the acceptance rate of the setting that ``gsi calibrate`` recommends. Raises InvalidRequestError."""
    file = folder / "calibration.json"
    try:
        recommended = json.loads(file.read_text(encoding="utf-8"))["recommended"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidRequestError(f"--calibration: {file} is none; allowed: a folder of gsi calibrate") from None
    value = recommended["acceptance"] if recommended else None
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidRequestError(
            f"--calibration: {file} recommends nothing; allowed: a folder where gsi calibrate ran settings (--run)"
        )
    return float(value)


def _print_plan(made: Plan, price: float | None) -> None:
    work = made.setup.workload
    out.print(
        f"{made.gpu.name}  {made.gpu.flops / 1e12:.0f} TFLOP/s, {made.gpu.bandwidth / 1e12:.2f} TB/s, "
        f"{made.gpu.memory / 1e9:.0f} GB: compute-bound above {made.gpu.ridge:.0f} FLOPs a byte",
        highlight=False,
    )
    out.print(
        f"system {made.setup.system.name}, n = {work.n}, {work.num_steps:g} steps of {work.step_tokens:g} tokens, "
        f"prompt of {work.prompt_tokens:g}",
        highlight=False,
    )
    names = ", ".join(f"{role} {model.architecture.name}" for role, model in made.setup.models.items())
    out.print(names, highlight=False, soft_wrap=True)
    out.print(_build_models(made), _build_phases(made), _build_times(made), _build_methods(made, price))
    for line in _say_break_even(made):
        out.print(line, highlight=False, soft_wrap=True)
    for name, reason in made.unplanned.items():
        out.print(f"Not planned: {name}: {reason}.", highlight=False, soft_wrap=True)


def _build_models(made: Plan) -> Table:
    table = _make_table("memory", "parameters", "weights, GB", "KV of a job, MB", "GPUs", "jobs that fit")
    for role, model in made.setup.models.items():
        memory = made.memory[role]
        table.add_row(
            role,
            f"{model.architecture.num_parameters / 1e9:.2f} B",
            f"{memory.weights / 1e9:.1f}",
            f"{memory.kv_per_job / 1e6:.0f}",
            "shared" if made.setup.is_shared else str(memory.num_gpus),
            f"{memory.max_jobs:,}",
        )
    return table


def _build_phases(made: Plan) -> Table:
    """Return each phase as it happens once; what the target resamples it writes as in S-BoN(target)."""
    gsi, sbon, target = (made.methods[name].step.first.phases for name in ("gsi", SBON_TARGET, "target"))
    table = _make_table("phase", "passes", "GB", "TFLOP", "FLOP/B", "ms", "bound by")
    named = {phase.name: phase for phase in (*gsi, sbon[0])} | {f"{target[0].name}, n = 1": target[0]}
    for name, phase in named.items():
        table.add_row(
            name,
            f"{phase.passes:.0f}",
            f"{phase.num_bytes / 1e9:.1f}",
            f"{phase.flops / 1e12:.2f}",
            f"{phase.intensity:.0f}",
            f"{1000 * phase.seconds:.0f}",
            _name_bound(phase),
        )
    return table


def _build_times(made: Plan) -> Table:
    """Return how often each method does what in a step."""
    kinds = (("draft", True), ("target", False), ("target", True), ("prm", False))
    table = _make_table("times in a step", "draft writes", "target scores", "target writes", "PRM reads")
    for name, one in made.methods.items():
        counts = dict.fromkeys(kinds, 0.0)
        for phase in one.step.phases:
            counts[phase.role, phase.is_writing] += phase.share
        table.add_row(name, *(f"{count:.2f}" if count else "-" for count in counts.values()))
    return table


def _name_bound(phase: Phase) -> str:
    if phase.seconds > 2 * phase.floor_seconds:
        return "overhead"
    return "compute" if phase.is_compute_bound else "memory"


def _build_methods(made: Plan, price: float | None) -> Table:
    cost = "GPU hours" if price is None else "$"
    table = _make_table("method", "s/step", "floor", "s/answer", "GPUs", "alone", "jobs/h", "full")
    for name, one in made.methods.items():
        alone, full = (hours * (1 if price is None else price) for hours in (one.gpu_hours_alone, one.gpu_hours))
        table.add_row(
            name,
            f"{one.step.seconds:.3f}",
            f"{one.step.floor_seconds:.3f}",
            f"{one.seconds_per_answer:.2f}",
            str(one.num_gpus),
            f"{alone:.2f}",
            f"{one.full_batch.jobs_per_hour:,.0f}",
            f"{full:.3f}",
        )
    table.caption = (
        "s/step and s/answer: one job at a time; floor: s/step without overhead\n"
        f"alone, full: {cost} for 1,000 answers, one job at a time or with full passes; jobs/h: with full passes"
    )
    table.caption_justify = "left"
    return table


def _say_break_even(made: Plan) -> list[str]:
    even, gsi = made.break_even, made.methods["gsi"]
    return [
        f"GSI is faster than S-BoN(target) {_say_from(even.seconds_of_sbon_target)}, "
        f"than the plain target {_say_from(even.seconds_of_target)}; given: {gsi.step.acceptance:.0%}.",
        f"At full batch it costs less than S-BoN(target) {_say_from(even.gpu_hours_of_sbon_target)}; "
        f"{_say_bottleneck(gsi)}.",
    ]


def _say_from(acceptance: float | None) -> str:
    if acceptance is None:
        return "at no acceptance rate"
    return "at any acceptance rate" if acceptance == 0 else f"from an acceptance rate of {acceptance:.1%}"


def _say_bottleneck(one: MethodPlan) -> str:
    return f"{one.full_batch.jobs_at_once} jobs fill its passes, and the {one.full_batch.bottleneck} is the bottleneck"


def _print_published(*, as_json: bool) -> None:
    rows = [_compare(row) for row in TABLE_2]
    if as_json:
        print_json(rows)
        return
    table = _make_table("GSI paper, Table 2", "n", "published, s/step", "planned", "error, %")
    for row in rows:
        table.add_row(
            row["method"],
            str(row["n"]),
            f"{row['published']:.2f}",
            f"{row['planned']:.2f}",
            f"{100 * row['relative_error']:+.1f}",
        )
    out.print(table)


def _compare(row: Published) -> dict[str, Any]:
    return {
        "method": row.method,
        "n": row.n,
        "published": row.seconds,
        "planned": predict(row),
        "relative_error": relative_error(row),
    }


def _make_table(first: str, *others: str) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
