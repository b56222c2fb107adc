"""``gsi up`` and ``gsi demo``: the whole system on this machine."""

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from gsi.check.findings import Finding, Level, worst
from gsi.cli import render
from gsi.cli.terminal import (
    EXIT_FAILED,
    Engine,
    Merged,
    Param,
    Queue,
    err,
    explain_errors,
    import_findings,
    out,
    print_json,
    read_params,
    run,
    show_event,
)
from gsi.client.sdk import DEFAULT_QUEUE
from gsi.errors import InvalidRequestError
from gsi.jobs.job import parse_payload
from gsi.local.arrangement import Arrangement, arrange_services
from gsi.local.demo import EXAMPLE_PROBLEM, list_ways, run_demo
from gsi.local.embedded_redis import free_port, is_free
from gsi.local.profile import NAMES as PROFILES
from gsi.local.profile import load_profile
from gsi.local.stack import Stack, local_stack, service_environments
from gsi.runtime.installation import how_to_install
from gsi.runtime.signals import stop_on_signals

REDIS_PORT = 6379  # where clients look by default


def up(
    models: Annotated[
        Path | None, typer.Option(help="Folder with models draft, target and prm. [default: the shipped family]")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help=f"Models by name, on the GPUs that there are: {', '.join(PROFILES)}."),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="0,1,2", help="GPUs of draft, target and PRM, or one for all; 0,1+2,3 cuts the target over two."
        ),
    ] = None,
    engine: Engine = None,
    merged: Merged = False,
    coordinators: Annotated[int, typer.Option(min=1, max=64, help="Number of coordinators.")] = 1,
    gateway: Annotated[bool, typer.Option(help="Whether to serve OpenAI's HTTP API as well.")] = True,
    queue: Queue = DEFAULT_QUEUE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Start the three services, check them as `gsi check` does, and stop.")
    ] = False,
) -> None:
    """Run the whole system on this machine, in this terminal, until Ctrl-C."""
    with explain_errors():
        arrangement = _arrange(models, profile, gpus, engine, merged=merged)
        with tempfile.TemporaryDirectory(prefix="gsi-up-") as folder:
            err.print(f"starting; logs in {folder}", style="dim")
            for line in arrangement.said:
                err.print(line, highlight=False, soft_wrap=True, markup=False)
            stack = local_stack(
                Path(folder),
                show_event,
                models=models,
                engine=engine,
                queue=queue,
                redis_port=REDIS_PORT if is_free(REDIS_PORT) else free_port(),
                num_coordinators=0 if dry_run else coordinators,
                has_gateway=gateway and not dry_run and _has_gateway(),
                is_merged=merged,
                arrangement=arrangement,
            )
            findings = run(_check(stack) if dry_run else _serve(stack))
        err.print("stopped", style="dim")
    if findings and worst(findings) is Level.ERROR:
        raise typer.Exit(EXIT_FAILED)


def _arrange(
    models: Path | None, profile: str | None, gpus: str | None, engine: str | None, *, merged: bool
) -> Arrangement:
    """Return how the services start. Raises an error that names the option at fault."""
    if merged and (profile or gpus):
        raise InvalidRequestError("--merged: not allowed with --profile or --gpus; allowed: with --models")
    if models and profile:
        raise InvalidRequestError("--models and --profile are both given; allowed: one of them")
    names = {role: own[f"GSI_{role.upper()}_MODEL"] for role, own in service_environments(models, engine).items()}
    return arrange_services(gpus, load_profile(profile) if profile else None, engine, names)


async def _check(stack: AbstractAsyncContextManager[Stack]) -> list[Finding]:
    """Start the services without coordinators, check them, and stop them; return what was found."""
    async with stack as running:
        findings: list[Finding] = await import_findings().report_findings(running.addresses)
        return findings


async def _serve(stack: AbstractAsyncContextManager[Stack]) -> None:
    """Run the system until a signal comes, which may also come while it starts."""
    stop, is_ready = stop_on_signals(), asyncio.Event()

    async def serve() -> None:
        async with stack as running:
            is_ready.set()
            _print_directions(running.redis_url, running.metrics, running.gateway_url)
            await stop.wait()
            err.print("stopping", style="dim")

    serving, stopping = asyncio.create_task(serve()), asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not (serving.done() or is_ready.is_set()):
        err.print("stopping before everything was ready", style="dim")
        serving.cancel()
        await asyncio.wait({serving})
        return
    await serving
    stopping.cancel()


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    n: Annotated[int, typer.Option(help="Candidates a step.")] = 4,
    problems: Annotated[int, typer.Option(min=1, max=200, help="Number of problems.")] = 8,
    engine: Engine = None,
    param: Param = None,
) -> None:
    """Run held-out problems through the whole system on this machine, and compare GSI with its target."""
    with explain_errors():
        params = {"n": n} | read_params(param)
        parse_payload({"prompt": "-", "params": params})
        num_jobs = problems * len(list_ways(params))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task("answers", total=num_jobs)
            ran = run(run_demo(params, problems, show_event, lambda: progress.advance(task), engine))
        if as_json:
            print_json(ran)
        else:
            out.print(render.render_demo(ran["jobs"]))
            out.print(render.render_comparison(ran["comparison"]))
            out.print(ran["gain"], style="bold", highlight=False)


def _has_gateway() -> bool:
    """Return whether the gateway's libraries are installed; say what is missing if they are not."""
    is_installed = all(find_spec(name) is not None for name in ("fastapi", "fastapi_offline", "limits"))
    if not is_installed:
        err.print(
            f"no gateway: {how_to_install('gateway')} for OpenAI's HTTP API", style="dim", highlight=False, markup=False
        )
    return is_installed


def _print_directions(redis_url: str, metrics: Mapping[str, str], gateway_url: str | None) -> None:
    for process, address in metrics.items():
        err.print(f"[dim]metrics  {process:<14} http://{address}/metrics[/]", highlight=False)
    err.print(f"\nIn another terminal:\n\n    export GSI_REDIS_URL={redis_url}", highlight=False)
    err.print(f'    gsi submit "{EXAMPLE_PROBLEM}"', highlight=False, soft_wrap=True)
    err.print("    gsi follow ID", highlight=False)
    if gateway_url:
        body = f'{{"model": "gsi", "stream": true, "messages": [{{"role": "user", "content": "{EXAMPLE_PROBLEM}"}}]}}'
        err.print(f"\nIn a browser, a playground and every answer's trace:  {gateway_url}/", highlight=False)
        err.print(f"\nOpenAI's API (any key):  {gateway_url}/v1\n", highlight=False)
        err.print(Text(f"    curl -N {gateway_url}/v1/chat/completions --json '{body}'"), soft_wrap=True)
    err.print("\nCtrl-C stops everything.", highlight=False)
