"""``gsi queue``: create, pause, limit, look."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

from gsi.cli.jobs import asked
from gsi.cli.terminal import Queue, RedisUrl, err, out
from gsi.client.sdk import DEFAULT_QUEUE, DEFAULT_REDIS_URL
from gsi.jobs.admin import QueueStats

queue = typer.Typer(no_args_is_help=True, help="The queue as its operator sees it.")


@queue.command()
def create(
    wait_seconds: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, max=86_400, help="Wait so long for a Redis that is away."),
    ] = 0,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Make the queue's streams and the coordinators' group, where they are missing; jobs that are there stay.

    Coordinators do that themselves. It is for those who look at the queue before there is one: autoscalers.
    """
    asked(redis_url, name, lambda client: client.admin.create(wait_seconds))
    err.print(f"queue {name} is there", highlight=False)


@queue.command()
def pause(redis_url: RedisUrl = DEFAULT_REDIS_URL, name: Queue = DEFAULT_QUEUE) -> None:
    """Let coordinators take no new job; those that run go on."""
    asked(redis_url, name, lambda client: client.admin.pause())
    err.print(f"queue {name} is paused; gsi queue resume ends it", highlight=False)


@queue.command()
def resume(redis_url: RedisUrl = DEFAULT_REDIS_URL, name: Queue = DEFAULT_QUEUE) -> None:
    """Let coordinators take jobs again."""
    asked(redis_url, name, lambda client: client.admin.resume())
    err.print(f"queue {name} goes on", highlight=False)


@queue.command()
def limit(
    max_jobs: Annotated[int, typer.Argument(help="How many jobs may wait and run; 0: no limit.")],
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Refuse submissions (of the SDK and this command) while the queue has so many jobs."""
    asked(redis_url, name, lambda client: client.admin.limit(max_jobs or None))
    err.print(f"queue {name}: {'no limit' if max_jobs == 0 else f'at most {max_jobs} jobs'}", highlight=False)


@queue.command()
def stats(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Show what waits and runs, and what the queue's keys take of the server's memory."""
    found = asked(redis_url, name, lambda client: client.admin.stats())
    if as_json:
        print(json.dumps(asdict(found)))
        return
    out.print(_line(found), highlight=False)
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("keys")
    table.add_column("number", justify="right")
    table.add_column("memory", justify="right")
    for kind, number in sorted(found.keys.items()):
        table.add_row(kind, f"{number:,}", decimal(found.bytes[kind]))
    table.add_row("all", f"{sum(found.keys.values()):,}", decimal(sum(found.bytes.values())), style="bold")
    out.print(table)


def _line(found: QueueStats) -> str:
    parts = [f"waiting {found.lag}", f"in flight {found.pending}", f"delayed {found.delayed}", f"dead {found.dead}"]
    if found.max_jobs is not None:
        parts.append(f"limit {found.max_jobs}")
    return "   ".join([*parts, "PAUSED"] if found.is_paused else parts)
