"""``gsi plan``: what speculation would cost and gain on GPUs, before one rents them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from gsi.algorithm.methods import METHODS
from gsi.cli.plan_quantities import (
    ACCEPTANCES_OF_PAPER,
    PAPER,
    Source,
    read_calibration,
    read_options,
)
from gsi.cli.plan_tables import print_plan, print_published
from gsi.cli.terminal import explain_errors, print_json
from gsi.errors import InvalidRequestError
from gsi.planning.architecture import Role, find_architecture
from gsi.planning.gpus import find_gpu
from gsi.planning.published import MAX_STEP_TOKENS, PAPER_MODELS, PROMPT_TOKENS, TABLE_2
from gsi.planning.quantities import OPTIONS, Quantity
from gsi.planning.report import make_plan, to_json
from gsi.planning.steps import Workload
from gsi.planning.systems import ANSWER_TOKENS, OURS, SECONDS_PER_PASS, SYSTEMS, set_overhead
from gsi.suggestions import list_names

GSI_ROW = TABLE_2[0]  # n = 16: the default of steps
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
        Path | None,
        typer.Option(help="What gsi calibrate wrote (the folder, calibration.json or methods.json): measured shares."),
    ] = None,
    rsd_acceptance: Annotated[
        float | None, typer.Option(min=0, max=1, help="The same of RSD; the paper's 0.97 if not given.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD=SHARE", help="The same of another method that may reject; may be repeated."),
    ] = None,
    sure: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD=SHARE", help="Share of steps that the draft's own judgement decides (conf-spec)."),
    ] = None,
    written: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD=SHARE", help="Share of n responses' tokens that a method with early ends writes."),
    ] = None,
    mean_n: Annotated[
        list[str] | None,
        typer.Option("--mean-n", metavar="METHOD=N", help="Mean candidates of a method with adaptive n (gsi:n_rule)."),
    ] = None,
    speculative_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens that a target with speculative decoding drafts at a time.")
    ] = None,
    token_acceptance: Annotated[
        float | None, typer.Option(min=0, max=1, help="Probability that it accepts one behind accepted ones.")
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
            print_published(as_json=as_json)
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
        options = {
            Quantity.ACCEPTANCE: accept or (),
            Quantity.SURE: sure or (),
            Quantity.WRITTEN: written or (),
            Quantity.MEAN_N: mean_n or (),
        }
        engine = {Quantity.TOKEN_ACCEPTANCE: token_acceptance, Quantity.SPECULATIVE_TOKENS: speculative_tokens}
        source = _collect(options, engine, acceptance, rsd_acceptance, calibration, n)
        accepted = source.values[Quantity.ACCEPTANCE]
        work = Workload(n, prompt_tokens, step_tokens, steps, max_step_tokens, accepted, quantities=source.others)
        given: dict[Role, str] = {"draft": draft, "target": target, "prm": prm}
        made = make_plan(
            {role: find_architecture(role, name) for role, name in given.items()},
            find_gpu("--gpu", gpu),
            set_overhead(SYSTEMS[system], overhead_ms / 1000),
            work,
            is_shared=one_gpu,
            names=METHODS,
        )
        if as_json:
            print_json({**to_json(made, price), "sources": source.origins})
            return
        print_plan(made, source, price)


def _check_numbers(**given: float | None) -> None:
    """Raise InvalidRequestError for infinity, which no range excludes."""
    for name, value in given.items():
        if value is not None and not math.isfinite(value):
            raise InvalidRequestError(f"--{name.replace('_', '-')}: {value} is not allowed; allowed: a finite number")


def _collect(
    options: Mapping[Quantity, Sequence[str]],
    engine: Mapping[Quantity, float | None],
    acceptance: float | None,
    rsd_acceptance: float | None,
    calibration: Path | None,
    n: int,
) -> Source:
    """Return what is known of methods: an option counts more than a calibration, and that more than the paper."""
    source = Source()
    of_option = {"gsi": ("--acceptance", acceptance), "rsd": ("--rsd-acceptance", rsd_acceptance)}
    for label, (option, value) in of_option.items():
        if value is not None:
            source.add({Quantity.ACCEPTANCE: {label: value}}, option)
    for quantity, given in read_options(options).items():
        source.add({quantity: given}, OPTIONS[quantity])
    for name, found in read_calibration(calibration, n) if calibration is not None else ():
        source.add(found, name)
    source.add({Quantity.ACCEPTANCE: ACCEPTANCES_OF_PAPER}, PAPER)
    source.add_speculation({quantity: value for quantity, value in engine.items() if value is not None})
    return source
