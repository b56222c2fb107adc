"""What ``gsi plan`` prints: tables of 80 columns, and sentences."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gsi.cli.plan_quantities import Source
from gsi.cli.terminal import out, print_json
from gsi.planning.calls import SPECULATIVE
from gsi.planning.phases import Phase
from gsi.planning.published import TABLE_2, Published, predict, relative_error
from gsi.planning.quantities import Missing, Quantity, say_missing
from gsi.planning.report import MethodPlan, Plan
from gsi.planning.steps import SBON_TARGET

MAX_LABEL = 24  # characters of a method, for which the widest table has room
NAMES = {  # as they are printed
    Quantity.ACCEPTANCE: "acceptance",
    Quantity.SURE: "sure",
    Quantity.WRITTEN: "written",
    Quantity.MEAN_N: "mean n",
    Quantity.TOKEN_ACCEPTANCE: "token acceptance",
    Quantity.SPECULATIVE_TOKENS: "speculative tokens",
}
TIMES = {  # what a model does in a step, by its role and whether it writes; the draft reads only as a judge
    ("draft", True): "draft\nwrites",
    ("draft", False): "draft\njudges",
    ("target", False): "target\nreads",
    ("target", True): "target\nwrites",
    ("prm", False): "PRM\nreads",
}


def print_plan(made: Plan, source: Source, price: float | None) -> None:
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
    out.print(f"known of methods: {_say_known(source)}", highlight=False, soft_wrap=True)
    out.print(_build_models(made), _build_phases(made), _build_times(made), _build_methods(made, price))
    for line in _say_break_even(made):
        out.print(line, highlight=False, soft_wrap=True)
    for sentence, labels in _group_unplanned(made.unplanned).items():
        out.print(f"Not planned: {', '.join(labels)}: {sentence}.", highlight=False, soft_wrap=True)


def _say_known(source: Source) -> str:
    """Return each quantity with its value, and from where it is."""
    return "; ".join(
        f"{NAMES[quantity]} {_say_values(quantity, of_labels, source.origins[quantity])}"
        for quantity, of_labels in source.values.items()
        if of_labels
    )


def _say_values(quantity: Quantity, of_labels: Mapping[str, float], origins: Mapping[str, str]) -> str:
    """Return the values with their methods; what is the engine's is that of all methods."""
    groups: dict[str, list[str]] = {}
    for label, value in of_labels.items():
        labels = groups.setdefault(f"{value:g} ({origins[label]})", [])
        if label.removesuffix(f":{SPECULATIVE}") not in labels:  # which accepts as the method without it
            labels.append(label)
    if quantity in {Quantity.TOKEN_ACCEPTANCE, Quantity.SPECULATIVE_TOKENS}:
        return ", ".join(groups)
    return ", ".join(f"{', '.join(labels)} {value}" for value, labels in groups.items())


def _group_unplanned(unplanned: Mapping[str, tuple[Missing, ...]]) -> dict[str, list[str]]:
    """Return the methods of each reason."""
    groups: dict[str, list[str]] = {}
    for label, missing in unplanned.items():
        groups.setdefault(say_missing(missing), []).append(label)
    return {
        say_missing(unplanned[labels[0]], labels[0]) if len(labels) == 1 else sentence: labels
        for sentence, labels in groups.items()
    }


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
    counts: dict[str, defaultdict[tuple[str, bool], float]] = {name: defaultdict(float) for name in made.methods}
    for name, one in made.methods.items():
        for phase in one.step.phases:
            if phase.model == made.setup.models[phase.role]:  # and not a drafter inside the target's engine
                counts[name][phase.role, phase.is_writing] += phase.share
    kinds = [kind for kind in TIMES if any(of_method[kind] for of_method in counts.values())]
    table = _make_table("times in a step", *(TIMES[kind] for kind in kinds))
    for name, of_method in counts.items():
        table.add_row(_break(name), *(f"{of_method[kind]:.2f}" if of_method[kind] else "-" for kind in kinds))
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
            _break(name),
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


def _break(label: str) -> str:
    """Return a label on as many lines as it needs."""
    lines = [""]
    for option in label.split(":"):
        separator = ":" if lines != [""] else ""
        if len(lines[-1]) + len(separator) + len(option) <= MAX_LABEL:
            lines[-1] += separator + option
        else:
            lines.append(f"  :{option}")
    return "\n".join(lines)


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


def print_published(*, as_json: bool) -> None:
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
