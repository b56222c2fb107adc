"""``gsi up`` and ``gsi demo``: the whole system on this machine."""

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from gsi.cli import render
from gsi.cli.terminal import Engine, Param, Queue, err, explain_errors, out, print_json, read_params, run, show_event
from gsi.client.sdk import DEFAULT_QUEUE
from gsi.jobs.job import parse_payload
from gsi.local.demo import EXAMPLE_PROBLEM, list_ways, run_demo
from gsi.local.embedded_redis import free_port, is_free
from gsi.local.stack import local_stack
from gsi.runtime.signals import stop_on_signals

REDIS_PORT = 6379  # where clients look by default


def up(
    models: Annotated[
        Path | None, typer.Option(help="Folder with models draft, target and prm. [default: the shipped family]")
    ] = None,
    engine: Engine = None,
    coordinators: Annotated[int, typer.Option(min=1, max=64, help="Number of coordinators.")] = 1,
    gateway: Annotated[bool, typer.Option(help="Whether to serve OpenAI's HTTP API as well.")] = True,
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
                has_gateway=gateway and _has_gateway(),
            )
            async with stack as running:
                _print_directions(running.redis_url, running.metrics, running.gateway_url)
                await stop.wait()
                err.print("stopping", style="dim")
        err.print("stopped", style="dim")

    with explain_errors():
        run(serve())


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
    is_installed = find_spec("fastapi") is not None and find_spec("limits") is not None
    if not is_installed:
        err.print("no gateway: pip install 'gsi-serve\\[gateway]' for OpenAI's HTTP API", style="dim", highlight=False)
    return is_installed


def _print_directions(redis_url: str, metrics: Mapping[str, str], gateway_url: str | None) -> None:
    for process, address in metrics.items():
        err.print(f"[dim]metrics  {process:<14} http://{address}/metrics[/]", highlight=False)
    err.print(f"\nIn another terminal:\n\n    export GSI_REDIS_URL={redis_url}", highlight=False)
    err.print(f'    gsi submit "{EXAMPLE_PROBLEM}"', highlight=False, soft_wrap=True)
    err.print("    gsi follow ID", highlight=False)
    if gateway_url:
        body = f'{{"model": "gsi", "stream": true, "messages": [{{"role": "user", "content": "{EXAMPLE_PROBLEM}"}}]}}'
        err.print(f"\nOpenAI's API (any key):  {gateway_url}/v1\n", highlight=False)
        err.print(Text(f"    curl -N {gateway_url}/v1/chat/completions --json '{body}'"), soft_wrap=True)
    err.print("\nCtrl-C stops everything.", highlight=False)
