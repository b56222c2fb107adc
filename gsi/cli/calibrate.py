"""``gsi calibrate`` and ``gsi theory``: which beta and u to use, and what the theorems promise."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markdown import Markdown

from gsi.cli.evaluate import (
    Concurrency,
    ModelsFolder,
    OptionalRedisUrl,
    OwnSystem,
    read_whole_numbers,
    run_with_progress,
)
from gsi.cli.terminal import Engine, Queue, err, explain_errors, import_evaluation, out, print_json
from gsi.errors import InvalidRequestError

if TYPE_CHECKING:
    from gsi.evaluation.figures import Row
    from gsi.evaluation.folder import EvaluationRun
    from gsi.evaluation.recommendation import Findings
    from gsi.evaluation.session import System


def calibrate(
    folder: Annotated[
        Path, typer.Argument(help="Folder of an evaluation with method gsi or rsd (gsi eval --out FOLDER).")
    ],
    method: Annotated[
        str | None, typer.Option(help="gsi, or rsd with its binary weighting. [default: gsi if it is recorded]")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Compare these recorded methods (or: all) and recommend one; no setting is computed or run."),
    ] = None,
    cost: Annotated[str, typer.Option(help="What --methods calls cheap: seconds or flops.")] = "seconds",
    n: Annotated[int | None, typer.Option(help="The n whose records are read. [default: the largest]")] = None,
    betas: Annotated[str, typer.Option(help="Values of beta to try.")] = "5,10,20,40,80",
    thresholds: Annotated[
        str, typer.Option(help="Values of u (rsd: delta) to try.")
    ] = "-0.5,0,0.2,0.4,0.5,0.6,0.7,0.8,0.9",
    ns: Annotated[str | None, typer.Option(help="Smaller values of n to try. [default: the recorded n only]")] = None,
    num_runs: Annotated[int, typer.Option("--run", help="Number of settings to run, 2 to 6; 0: none.")] = 4,
    margin: Annotated[
        float, typer.Option(min=0, max=100, help="Points of accuracy that a cheaper setting may lose.")
    ] = 1.0,
    reward_bound: Annotated[float, typer.Option(help="The largest reward, for the theorems.")] = 1.0,
    epsilon: Annotated[float, typer.Option(help="Epsilon of Theorem 1, in nats.")] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    concurrency: Concurrency = None,
    engine: Engine = None,
    models: ModelsFolder = None,
    own_system: OwnSystem = False,
    redis_url: OptionalRedisUrl = None,
    queue: Queue = "default",
) -> None:
    """Compute from an evaluation's records what other settings would do, run the best few, and recommend a setting."""
    with explain_errors():
        if methods is not None:
            if method is not None:
                raise InvalidRequestError("--method and --methods are both given; allowed: one of them")
            _recommend_method(folder, methods.split(","), n, margin / 100, cost, as_json=as_json)
            return
        source = import_evaluation("folder").Folder(folder)
        run, recommendation = source.read_run(), import_evaluation("recommendation")
        findings = recommendation.analyse_records(
            recommendation.read_records(source, method, n),
            betas=_read_numbers("betas", betas),
            thresholds=_read_numbers("thresholds", thresholds),
            ns=read_whole_numbers("ns", ns) if ns else (),
            num_runs=num_runs or 6,
            reward_bound=reward_bound,
            epsilon=epsilon,
        )
        system = import_evaluation("session").System(redis_url, queue, engine, models, concurrency, own_system)
        rows = _run_settings(folder, run, findings, system) if num_runs else []
        _recommend_setting(folder, run, findings, rows, margin / 100, as_json=as_json)


def _run_settings(folder: Path, run: "EvaluationRun", findings: "Findings", system: "System") -> "Sequence[Row]":
    """Run the settings that are worth it, as an evaluation within the folder; return its rows."""
    plan = import_evaluation("recommendation").plan_runs(run, findings)
    into = import_evaluation("folder").Folder(folder / "calibration" / plan.name)
    return run_with_progress(plan, into, system, like=run.evaluation.identity).rows


def _recommend_setting(
    folder: Path, run: "EvaluationRun", findings: "Findings", rows: "Sequence[Row]", margin: float, *, as_json: bool
) -> None:
    """Write calibration.md and calibration.json into the folder, and print the recommendation."""
    recommendation = import_evaluation("recommendation")
    markdown = recommendation.write_calibration(run, findings, rows, margin)
    plain = recommendation.build_calibration_json(run, findings, rows, margin)
    _write(folder, "calibration", markdown, plain)
    if as_json:
        print_json(plain)
        return
    shown, _, rest = markdown.partition("## Worth running")
    worth_running = rest.partition("## Theory")[0].partition("## All settings")[0]
    out.print(Markdown(shown if rows else worth_running))
    for warning in findings.theory.warnings if findings.theory else ():
        err.print(f"[yellow]theory[/]  {warning}", highlight=False, soft_wrap=True)
    err.print(f"calibration  {folder / 'calibration.md'}", highlight=False, soft_wrap=True)


def _recommend_method(
    folder: Path, methods: Sequence[str], n: int | None, margin: float, cost: str, *, as_json: bool
) -> None:
    """Compare recorded methods, and write methods.md and methods.json into the folder."""
    choice, figures = import_evaluation("method_choice"), import_evaluation("figures")
    if cost not in list(choice.CostKind):
        raise InvalidRequestError(f"--cost: {cost} is not allowed; allowed: {', '.join(choice.CostKind)}")
    source = import_evaluation("folder").Folder(folder)
    run = source.read_run()
    jobs = source.read_records()
    rows = choice.select_rows(figures.compute_rows(run.evaluation, jobs), methods, n)
    found = choice.choose_method(rows, choice.CostKind(cost), margin)
    markdown = choice.write_method_choice(found, run.evaluation.dataset)
    plain = choice.build_method_choice_json(found, run.evaluation.dataset, jobs)
    _write(folder, "methods", markdown, plain)
    if as_json:
        print_json(plain)
        return
    out.print(Markdown(markdown))
    err.print(f"methods  {folder / 'methods.md'}", highlight=False, soft_wrap=True)


def _write(folder: Path, name: str, markdown: str, plain: Mapping[str, Any]) -> None:
    (folder / f"{name}.md").write_text(markdown)
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def theory(
    chi_square: Annotated[float, typer.Option(help="chi^2(pi_B || pi_S), as gsi calibrate estimates it.")],
    beta: Annotated[float, typer.Option(help="Inverse temperature of soft best-of-n.")] = 20.0,
    reward_bound: Annotated[float, typer.Option(help="The largest reward.")] = 1.0,
    epsilon: Annotated[float, typer.Option(help="KL divergence that is allowed, in nats.")] = 0.1,
    n: Annotated[int, typer.Option(help="Candidates a step.")] = 16,
    acceptance: Annotated[float, typer.Option(help="p(u), the share of steps accepted.")] = 1.0,
    cv_squared: Annotated[float, typer.Option(help="CV^2(e^(beta r)) under the target, for Theorem 2.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Calculate n of Theorem 1, its KL at a given n, Theorem 2 (GSI paper), and what holds with the test of line 6."""
    with explain_errors():
        calculator = import_evaluation("theorems")
        log10_n = calculator.theorem_1_log10_n(chi_square, beta, reward_bound, epsilon)
        promised = calculator.theorem_1_epsilon(n, chi_square, beta, reward_bound)
        bound = calculator.theorem_2_bound(n, acceptance, beta, reward_bound, chi_square, cv_squared)
        with_test = (n, acceptance, beta, reward_bound, chi_square, cv_squared)
        distance, kl = calculator.rejection_total_variation(*with_test), calculator.rejection_kl(*with_test)
        if as_json:
            figures = {"theorem_1_log10_n": log10_n, "theorem_1_epsilon": promised, "theorem_2_bound": bound}
            print_json({**figures, "rejection_total_variation": distance, "rejection_kl": kl})
            return
        out.print(f"Theorem 1: KL <= {epsilon:g} needs n >= 10^{log10_n:.2f}", highlight=False)
        out.print(f"Theorem 1: at n = {n} KL <= {promised:.3g}", highlight=False)
        out.print(f"Theorem 2: at n = {n} the reward lost is at most {bound:.3g}", highlight=False)
        out.print(
            f"With the test of line 6: at n = {n} TV <= {distance:.3g}, KL <= {kl:.3g}, "
            f"reward lost <= {reward_bound * distance:.3g}",
            highlight=False,
        )
        out.print(calculator.CAUTION, style="dim", highlight=False)


def _read_numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidRequestError(f'{name}: "{text}" is not allowed; allowed: numbers separated by commas') from None
