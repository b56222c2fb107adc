"""``gsi eval``: which method, which n, and what does it buy."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gsi.cli.terminal import (
    Engine,
    Param,
    Queue,
    err,
    explain_errors,
    import_evaluation,
    out,
    print_json,
    read_params,
    run,
    show_event,
)
from gsi.errors import InvalidRequestError

if TYPE_CHECKING:
    from gsi.evaluation.estimates import Estimate
    from gsi.evaluation.figures import Row
    from gsi.evaluation.records import Identity, RecordedJob
    from gsi.evaluation.session import FinishedEvaluation

EXIT_INTERRUPTED = 130  # the exit status of a shell after SIGINT
EVALUATIONS = Path("gsi-eval")  # where results go unless a folder is named

OptionalRedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar="GSI_REDIS_URL",
        help="Redis of a running system. [default: Redis on this machine, else a system that this command starts]",
    ),
]
ModelsFolder = Annotated[
    Path | None,
    typer.Option("--models", help="Folder with models draft, target and prm, if this command starts a system."),
]
OwnSystem = Annotated[
    bool, typer.Option("--own-system", help="Start a system for this command, even beside one that runs.")
]
Concurrency = Annotated[
    int | None,
    typer.Option(min=1, max=4096, help="Jobs in the queue at once. [default: 64; 4 if this command starts a system]"),
]
Field = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="NAME=FIELD",
        help="Field of a JSONL file that holds the problem, answer, choices, context or id.",
    ),
]


def evaluate(
    dataset: Annotated[
        str,
        typer.Option(help="arithmetic, math500, gsm8k, olympiadbench, minerva_math, mmlu_stem, or a JSONL file."),
    ] = "arithmetic",
    methods: Annotated[
        str, typer.Option(help="Separated by commas: name or name:option, such as rsd:binary=0.7.")
    ] = "gsi,rsd,soft-best-of-n:draft,soft-best-of-n:target",
    n: Annotated[str, typer.Option(help="Candidates a step, or responses: one or several, separated by commas.")] = "4",
    seeds: Annotated[int, typer.Option(help="Runs of each problem.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Number of problems, from the first. [default: all]")] = None,
    field: Field = None,
    param: Param = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for records and report. [default: a name made from the options]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object on standard output.")] = False,
    concurrency: Concurrency = None,
    engine: Engine = None,
    models: ModelsFolder = None,
    own_system: OwnSystem = False,
    redis_url: OptionalRedisUrl = None,
    queue: Queue = "default",
) -> None:
    """Compare methods on a data set. A stopped evaluation resumes where it left off."""
    with explain_errors():
        session = import_evaluation("session")
        plan = import_evaluation("plan").Plan(
            dataset=dataset,
            fields={name: str(value) for name, value in read_params(field).items()},
            limit=limit,
            methods=tuple(filter(None, (method.strip() for method in methods.split(",")))),
            ns=read_whole_numbers("n", n),
            seeds=seeds,
            params=read_params(param),
        )
        system = session.System(redis_url, queue, engine, models, concurrency, own_system)
        folder = import_evaluation("folder").Folder(out_folder or EVALUATIONS / plan.name)
        outcome = run_with_progress(plan, folder, system)
        _print_outcome(outcome, as_json=as_json)


def run_with_progress(plan: Any, folder: Any, system: Any, like: "Identity | None" = None) -> "FinishedEvaluation":
    """Run an evaluation with a progress bar on standard error. The bar judges the time left by the jobs of this run.

    Raises InvalidRequestError if the system has other models than the evaluation ``like``.
    """
    session, identities = import_evaluation("session"), import_evaluation("identity")
    begun, problems = session.begin(plan, folder, system)
    total, done = session.count_jobs(begun, problems), len(folder.read_records())
    if 0 < done < total:
        err.print(f"resuming: {done} of {total} jobs are in {folder.path}", highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, speed_estimate_period=300) as progress:
        task = progress.add_task("jobs", total=total, completed=done)

        def on_job(row: str, _: Any) -> None:
            progress.update(task, advance=1, description=row)

        def on_identity(identity: "Identity") -> None:
            line = identities.describe_identity(identity, begun.evaluation.dataset)
            err.print(f"measures  {escape(line)}", highlight=False, soft_wrap=True)
            identities.refuse_other_models(like, identity)

        watch = session.Watch(_show_trouble, on_identity, on_job)
        try:
            outcome: FinishedEvaluation = run(session.evaluate(begun, problems, folder, system, watch))
        except KeyboardInterrupt:
            err.print(f"stopped; the same command resumes with the records in {folder.path}", highlight=False)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        return outcome


def _show_trouble(process: str, event: Mapping[str, Any]) -> None:
    """Show warnings and errors. What is measured is the first line; the parts of an own system are not news."""
    if event.get("event") != "ready":
        show_event(process, event)


def read_whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Read whole numbers separated by commas. Raises InvalidRequestError that names the option."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidRequestError(
            f'{name}: "{text}" is not allowed; allowed: whole numbers separated by commas, such as 1,4,16'
        ) from None


def build_table(rows: "list[Row]") -> Table:
    """Return the main figures; the report has the others."""
    table = Table(
        header_style="bold",
        box=SIMPLE_HEAD,
        caption="±: 95 % over problems; tokens a problem: the draft's + the target's",
        caption_justify="left",
    )
    table.add_column("method", min_width=21, overflow="fold")
    for name in ("n", "accuracy, %", "accepted, %", "s/step", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        seconds = row.timings.seconds_per_step
        table.add_row(
            row.label,
            str(row.n),
            _format_percent(row.accuracy),
            _format_percent(row.acceptance_rate),
            "-" if seconds is None else f"{seconds:.3f}",
            f"{row.tokens_per_problem.draft_written:,.0f} + {row.tokens_per_problem.target_written:,.0f}",
        )
    return table


def _print_outcome(outcome: "FinishedEvaluation", *, as_json: bool) -> None:
    if as_json:
        print_json(outcome.report)
        return
    out.print(build_table(outcome.rows))
    _print_failures(outcome.jobs)
    err.print(f"report  {outcome.folder / 'report.md'}", highlight=False, soft_wrap=True)


def _print_failures(jobs: "list[RecordedJob]") -> None:
    """Print for each method how many jobs ended without an answer, and the first job's error."""
    errors: dict[str, list[str]] = {}
    for job in jobs:
        if job.error:
            errors.setdefault(job.label, []).append(job.error)
    for label, found in errors.items():
        err.print(f"[yellow]failed[/]  {len(found)} jobs of {label}: {escape(found[0])}", soft_wrap=True)


def _format_percent(estimate: "Estimate | None") -> str:
    if estimate is None:
        return "-"
    interval = "" if estimate.half_width is None else f" ± {100 * estimate.half_width:.1f}"
    return f"{100 * estimate.value:.1f}{interval}"
