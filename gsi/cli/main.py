"""The command ``gsi``. Answers go to standard output; progress, warnings and errors to standard error."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gsi.cli import render
from gsi.cli.calibrate import calibrate, theory
from gsi.cli.evaluate import evaluate
from gsi.cli.jobs import cancel, dead
from gsi.cli.queue_admin import queue
from gsi.cli.terminal import (
    EXIT_FAILED,
    Engine,
    Param,
    Queue,
    RedisUrl,
    err,
    explain_errors,
    out,
    print_json,
    read_params,
    run,
    show_event,
)
from gsi.client.sdk import DEFAULT_QUEUE, DEFAULT_REDIS_URL, Client
from gsi.errors import InvalidRequestError
from gsi.jobs.job import parse_payload
from gsi.jobs.reader import JobRecord
from gsi.local.demo import EXAMPLE_PROBLEM, run_demo
from gsi.local.embedded_redis import free_port, is_free
from gsi.local.stack import local_stack
from gsi.runtime.process_log import configure_logging
from gsi.runtime.signals import stop_on_signals

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # the address of Redis may hold a password
    help="Guided Speculative Inference: submit, follow, run.",
)

REDIS_PORT = 6379  # where clients look by default


@app.command()
def submit(
    prompts: Annotated[list[str] | None, typer.Argument(help="One job for each prompt.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help='JSONL, a payload {"prompt": …} a line; "-" is standard input.')
    ] = None,
    param: Param = None,
    is_followed: Annotated[
        bool, typer.Option("--follow", help="Show each job's steps until the job ends; exit 1 if a job has no answer.")
    ] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Push jobs and print their ids, one on each line. If a job is invalid, no job is pushed."""
    with explain_errors():
        params = read_params(param)
        raw = [{"prompt": prompt} for prompt in prompts or []] + _read_payloads(file)
        if not raw:
            raise InvalidRequestError('nothing to submit; allowed: gsi submit "a prompt", or --file jobs.jsonl')
        payloads = [parse_payload({**payload, "params": {**payload.get("params", {}), **params}}) for payload in raw]

        async def push() -> list[JobRecord]:
            async with Client(redis_url, queue) as client:
                ids = []
                for payload in payloads:
                    ids.append(await client.submit(payload))
                    print(ids[-1], flush=True)
                return [await _show_steps(client, job_id) for job_id in ids] if is_followed else []

        if any(record.state != "SUCCEEDED" for record in run(push())):
            raise typer.Exit(EXIT_FAILED)


@app.command()
def follow(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Show a job's steps as they are kept, until the job has finished."""

    async def show() -> None:
        async with Client(redis_url, queue) as client:
            if not await client.exists(job_id):
                err.print(f"waiting for job {job_id}: it was never pushed, or no coordinator has taken it yet")
            await _show_steps(client, job_id)

    with explain_errors():
        run(show())


async def _show_steps(client: Client, job_id: str) -> JobRecord:
    """Print a job's steps as they are kept, and how it ended; return its record."""
    async for step in client.follow(job_id):
        out.print(render.render_step(step), soft_wrap=True)
    record = await client.result(job_id)
    out.print(render.render_end(record), soft_wrap=True)
    return record


@app.command()
def result(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: Annotated[bool, typer.Option("--json", help="The whole record as one JSON object.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has finished.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Show a job's answer; exit 1 if the job ended without an answer."""

    async def fetch() -> Any:
        async with Client(redis_url, queue) as client:
            return await client.wait(job_id) if wait else await client.result(job_id)

    with explain_errors():
        record = run(fetch())
        if as_json:
            print_json(record.to_dict())
        else:
            out.print(record.fields.get("text", "").rstrip(), markup=False, highlight=False, soft_wrap=True)
            err.print(render.render_end(record), soft_wrap=True)
        if record.state.is_finished and record.state != "SUCCEEDED":
            raise typer.Exit(EXIT_FAILED)


@app.command()
def up(
    models: Annotated[
        Path | None, typer.Option(help="Folder with models draft, target and prm. [default: the shipped family]")
    ] = None,
    engine: Engine = None,
    coordinators: Annotated[int, typer.Option(min=1, max=64, help="Number of coordinators.")] = 1,
    queue: Queue = DEFAULT_QUEUE,
) -> None:
    """Run the whole system on this machine, in this terminal, until Ctrl-C."""

    async def serve() -> None:
        stop = stop_on_signals()
        with tempfile.TemporaryDirectory(prefix="gsi-up-") as folder:
            err.print(f"starting; logs in {folder}", style="dim")
            port = REDIS_PORT if is_free(REDIS_PORT) else free_port()
            stack = local_stack(
                Path(folder),
                show_event,
                models=models,
                engine=engine,
                queue=queue,
                redis_port=port,
                num_coordinators=coordinators,
            )
            async with stack as running:
                _print_directions(running.redis_url, running.metrics)
                await stop.wait()
                err.print("stopping", style="dim")
        err.print("stopped", style="dim")

    with explain_errors():
        run(serve())


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    n: Annotated[int, typer.Option(help="Candidates a step.")] = 4,
    problems: Annotated[int, typer.Option(min=1, max=200, help="Number of problems.")] = 24,
    engine: Engine = None,
    param: Param = None,
) -> None:
    """Run held-out word problems through the whole system on this machine."""
    with explain_errors():
        params = {"n": n} | read_params(param)
        parse_payload({"prompt": "-", "params": params})
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task("problems", total=problems)
            ran = run(run_demo(params, problems, show_event, lambda: progress.advance(task), engine))
        if as_json:
            print_json(ran)
        else:
            out.print(render.render_demo(ran["jobs"]))
            out.print(render.render_totals(ran["totals"]))


app.command()(cancel)
app.add_typer(dead, name="dead")
app.command("eval")(evaluate)
app.command()(calibrate)
app.command()(theory)
app.add_typer(queue, name="queue")


def main() -> None:
    """Run the command line. Standard output is for answers, so logs go to standard error."""
    configure_logging("gsi", "console", "error")
    app()


def _read_payloads(file: str | None) -> list[dict[str, Any]]:
    """Read a payload from each line of a JSONL file. Raises InvalidRequestError that names the line."""
    if file is None:
        return []
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise InvalidRequestError(f"--file {file}: {error.strerror}") from None
    payloads = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                payloads.append(parse_payload(line).model_dump(mode="json", exclude_unset=True))
            except InvalidRequestError as error:
                raise InvalidRequestError(f"{file} line {number}: {error}") from None
    return payloads


def _print_directions(redis_url: str, metrics: Mapping[str, str]) -> None:
    for process, address in metrics.items():
        err.print(f"[dim]metrics  {process:<14} http://{address}/metrics[/]", highlight=False)
    err.print(f"\nIn another terminal:\n\n    export GSI_REDIS_URL={redis_url}", highlight=False)
    err.print(f'    gsi submit "{EXAMPLE_PROBLEM}"', highlight=False, soft_wrap=True)
    err.print("    gsi follow ID\n\nCtrl-C stops everything.", highlight=False)
