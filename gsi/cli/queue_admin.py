"""``gsi queue``: create, pause, resume, limit and inspect a queue."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

from gsi.cli.jobs import ask_queue
from gsi.cli.terminal import Queue, RedisUrl, err, out, print_json
from gsi.client.sdk import DEFAULT_QUEUE, DEFAULT_REDIS_URL
from gsi.jobs.admin import QueueStats

queue = typer.Typer(no_args_is_help=True, help="Create, pause, limit and inspect a queue.")


@queue.command()
def create(
    wait_seconds: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, max=86_400, help="How long to wait for a Redis that is unavailable."
        ),
    ] = 0,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Create the queue's streams and consumer group where they are missing. Existing jobs stay.

    Coordinators do so at start. An autoscaler that reads the queue before any coordinator runs needs this command.
    """
    ask_queue(redis_url, name, lambda client: client.admin.create(wait_seconds))
    err.print(f"queue {name} exists", highlight=False)


@queue.command()
def pause(redis_url: RedisUrl = DEFAULT_REDIS_URL, name: Queue = DEFAULT_QUEUE) -> None:
    """Stop coordinators from taking new jobs. Running jobs continue."""
    ask_queue(redis_url, name, lambda client: client.admin.pause())
    err.print(f"queue {name} is paused; resume it with gsi queue resume", highlight=False)


@queue.command()
def resume(redis_url: RedisUrl = DEFAULT_REDIS_URL, name: Queue = DEFAULT_QUEUE) -> None:
    """Let coordinators take new jobs again."""
    ask_queue(redis_url, name, lambda client: client.admin.resume())
    err.print(f"queue {name} has resumed", highlight=False)


@queue.command()
def limit(
    max_jobs: Annotated[int, typer.Argument(help="Most jobs that may wait and run; 0: no limit.")],
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Refuse submissions by the SDK and this command while the queue has this many jobs."""
    ask_queue(redis_url, name, lambda client: client.admin.limit(max_jobs or None))
    err.print(f"queue {name}: {'no limit' if max_jobs == 0 else f'at most {max_jobs} jobs'}", highlight=False)


@queue.command()
def stats(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Show how many jobs wait and run, and how much of the server's memory the queue uses."""
    found = ask_queue(redis_url, name, lambda client: client.admin.stats())
    if as_json:
        print_json(asdict(found))
        return
    out.print(_format_counts(found), highlight=False)
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("keys")
    table.add_column("number", justify="right")
    table.add_column("memory", justify="right")
    for kind, number in sorted(found.keys.items()):
        table.add_row(kind, f"{number:,}", decimal(found.bytes[kind]))
    table.add_row("all", f"{sum(found.keys.values()):,}", decimal(sum(found.bytes.values())), style="bold")
    out.print(table)


def _format_counts(found: QueueStats) -> str:
    parts = [f"waiting {found.lag}", f"in flight {found.pending}", f"delayed {found.delayed}", f"dead {found.dead}"]
    if found.max_jobs is not None:
        parts.append(f"limit {found.max_jobs}")
    return "   ".join([*parts, "PAUSED"] if found.is_paused else parts)
