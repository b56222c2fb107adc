"""``gsi eval``: which method, which n, and what does it buy."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent, shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gsi.cli.terminal import (
    EXIT_INTERRUPTED,
    Engine,
    Merged,
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
    from gsi.evaluation.figures import Row
    from gsi.evaluation.folder import EvaluationRun
    from gsi.evaluation.records import Identity, RecordedJob
    from gsi.evaluation.session import FinishedEvaluation

DOUBT = 20  # answers, all wrong: at an accuracy of 14 % that happens once in 20 times
SHOWN_CHARACTERS = 3000  # of the first prompt
SHOWN_REASON = 160  # characters, in a table
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
    seed_offset: Annotated[
        int, typer.Option(help="The first seed: with another offset the runs are fresh, a replicate of those before.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(help="Number of problems, from the first. [default: all]")] = None,
    field: Field = None,
    param: Param = None,
    system_message: Annotated[
        str | None, typer.Option("--system", help="System message of all prompts. [default: the data set's]")
    ] = None,
    no_system: Annotated[bool, typer.Option("--no-system", help="Ask without a system message.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a data set in which a row has no answer.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run the jobs again that failed.")] = False,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for records and report. [default: a name made from the options]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object on standard output.")] = False,
    concurrency: Concurrency = None,
    engine: Engine = None,
    models: ModelsFolder = None,
    own_system: OwnSystem = False,
    merged: Merged = False,
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
            seed_offset=seed_offset,
            system=_read_system(system_message, no_system=no_system),
            is_strict=strict,
            params=read_params(param),
        )
        system = session.System(redis_url, queue, engine, models, concurrency, own_system, merged)
        folder = import_evaluation("folder").Folder(out_folder or EVALUATIONS / plan.name)
        outcome = run_with_progress(plan, folder, system, retry_failed=retry_failed)
        _print_outcome(outcome, as_json=as_json)


def run_with_progress(
    plan: Any, folder: Any, system: Any, like: "Identity | None" = None, *, retry_failed: bool = False
) -> "FinishedEvaluation":
    """Run an evaluation with a progress bar on standard error. The bar judges the time left by the jobs of this run.

    Raises InvalidRequestError if the system has other models than the evaluation ``like``.
    """
    session = import_evaluation("session")
    begun, problems = session.begin(plan, folder, system)
    total, done = session.count_jobs(begun, problems), session.count_done(folder, retry_failed=retry_failed)
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
        doubts: Counter[str] = Counter()

        def on_identity(identity: "Identity", rendered: str) -> None:
            _show_identity(identity, rendered, begun, problems[0].expected)
            import_evaluation("identity").refuse_other_models(like, identity)
            if 0 < done < total:
                err.print(f"resuming: {done} of {total} jobs are in {folder.path}", highlight=False, soft_wrap=True)

        def on_job(row: str, job: "RecordedJob") -> None:
            progress.update(task, advance=1, description=row)
            _watch_for_doubt(doubts, row, job)

        watch = session.Watch(_show_trouble, on_identity, on_job, retry_failed)
        try:
            outcome: FinishedEvaluation = run(session.evaluate(begun, problems, folder, system, watch))
        except KeyboardInterrupt:
            err.print(f"stopped; the same command resumes with the records in {folder.path}", highlight=False)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        return outcome


def _show_identity(identity: "Identity", rendered: str, begun: "EvaluationRun", expected: str) -> None:
    """Say first what is measured, then show what the models read: a wrong data set or template shows there."""
    line = import_evaluation("identity").describe_identity(identity, begun.evaluation.dataset)
    err.print(f"measures  {escape(line)}", highlight=False, soft_wrap=True)
    if begun.evaluation.skipped:
        err.print(f"[yellow]skipped[/]  {begun.evaluation.skipped} rows without an answer (--strict refuses them)")
    shown = rendered if len(rendered) <= SHOWN_CHARACTERS else f"{rendered[:SHOWN_CHARACTERS]}…"
    err.print("first prompt, as rendered:", style="dim")
    err.print(Text(indent(shown.rstrip("\n"), "  ")), highlight=False, soft_wrap=True)
    err.print(f"expected  {escape(expected)}", highlight=False, soft_wrap=True)


def _watch_for_doubt(doubts: "Counter[str]", row: str, job: "RecordedJob") -> None:
    """Warn when the first answers of a row are all wrong, so that nobody learns of a wrong data set after hours."""
    if job.state.value != "SUCCEEDED":
        return
    doubts[row] += DOUBT if job.is_correct else 1
    if doubts[row] == DOUBT and not job.is_correct:
        err.print(
            f"[yellow]0 % right[/]  none of the first {DOUBT} answers of {escape(row)}; {_tell_case(job)}",
            soft_wrap=True,
        )


def _tell_case(job: "RecordedJob") -> str:
    return f"expected {escape(job.expected)}, answered {escape(job.answer or 'nothing')}"


def _read_system(message: str | None, *, no_system: bool) -> str | None:
    if no_system and message is not None:
        raise InvalidRequestError("system: --system is not allowed with --no-system; allowed: one of them")
    return "" if no_system else message


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
    format_interval = import_evaluation("tables").format_percent_with_interval
    table = Table(
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption="[ ]: 95 % interval over problems; tokens a problem: the draft's + the target's",
        caption_justify="left",
    )
    table.add_column("method", min_width=21, overflow="fold")
    for name in ("n", "accuracy, %", "accepted", "s/step", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        seconds = row.timings.seconds_per_step
        tokens = row.tokens_per_problem
        table.add_row(
            _format_label(row),
            str(row.n),
            "FAILED" if row.has_failed else format_interval(row.accuracy, digits=0),
            "-" if row.acceptance_rate is None else f"{100 * row.acceptance_rate.value:.1f}",
            "-" if seconds is None else f"{seconds:.3f}",
            f"{tokens.draft_written:,.0f} + {tokens.target_written:,.0f}",
        )
    return table


def _format_label(row: "Row") -> Text:
    """Return a row's label, and below it why jobs failed."""
    if not row.failures:
        return Text(row.label)
    what = "FAILED" if row.has_failed else f"{row.failures} of {row.jobs} failed"
    return Text(f"{row.label}\n{what}: {shorten(row.failure_reason or '', SHOWN_REASON, placeholder='…')}")


def _print_outcome(outcome: "FinishedEvaluation", *, as_json: bool) -> None:
    _print_doubts(outcome)
    if as_json:
        print_json(outcome.report)
        return
    out.print(build_table(outcome.rows))
    err.print(f"report  {outcome.folder / 'report.md'}", highlight=False, soft_wrap=True)


def _print_doubts(outcome: "FinishedEvaluation") -> None:
    """Print why jobs failed, and for which methods not one answer is right."""
    for row in outcome.rows:
        name = escape(f"{row.label}, n = {row.n}")
        if row.failures:
            reason = escape(row.failure_reason or "")
            err.print(f"[yellow]failed[/]  {row.failures} of {row.jobs} jobs of {name}: {reason}", soft_wrap=True)
        if row.has_none_right:
            case = next(job for job in outcome.jobs if (job.label, job.n) == (row.label, row.n) and job.text)
            err.print(
                f"[yellow]0 % right[/]  {name}: is it the right data set, system message and answer format? The first: "
                f"{_tell_case(case)}",
                soft_wrap=True,
            )
    if any(row.failures for row in outcome.rows):
        err.print("jobs that failed are no wrong answers; the same command with --retry-failed runs them again")
