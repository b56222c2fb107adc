"""``gsi queue``: create, pause, resume, limit, inspect and check a queue."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

from gsi.cli.jobs import ask_queue
from gsi.cli.terminal import Queue, RedisUrl, err, out, print_json
from gsi.client.sdk import DEFAULT_QUEUE, DEFAULT_REDIS_URL, AsyncClient
from gsi.jobs.admin import QueueStats
from gsi.jobs.check import IDLE_CONSUMER_SECONDS, Finding

queue = typer.Typer(no_args_is_help=True, help="Create, pause, limit, inspect and check a queue.")


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


@queue.command()
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found.")] = False,
    idle_consumer_seconds: Annotated[
        float,
        typer.Option("--idle", metavar="SECONDS", min=60, help="After which a consumer that holds nothing is gone."),
    ] = IDLE_CONSUMER_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Find jobs that no coordinator would receive, wrong counts, keys without a lifetime, and consumers that have gone.

    Safe beside running coordinators. Exit code 1: something is wrong, and was not repaired.
    """

    async def look(client: AsyncClient) -> list[Finding]:
        return [each async for each in client.admin.check(repair=repair, idle_consumer_seconds=idle_consumer_seconds)]

    found = ask_queue(redis_url, name, look)
    if as_json:
        print_json({"findings": [asdict(each) for each in found], "repaired": repair})
    else:
        for each in found:
            out.print(str(each), markup=False, highlight=False)
        err.print(_format_findings(len(found), name, is_repaired=repair), highlight=False)
    if found and not repair:
        raise typer.Exit(1)


@queue.command()
def models(
    forget: Annotated[
        bool, typer.Option("--forget", help="Let the next coordinator serve the queue with its own models.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="With --forget: although jobs are unfinished.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    name: Queue = DEFAULT_QUEUE,
) -> None:
    """Show which models the queue is served with, or let it be served with others.

    A coordinator with other models takes no jobs. To change models on purpose, let all jobs end, stop the coordinators
    of the old models, and run this with --forget. Exit code 1: jobs are unfinished, and nothing was forgotten.
    """
    if forget:
        _forget_models(redis_url, name, force=force)
        return
    found = ask_queue(redis_url, name, lambda client: client.admin.models.read())
    if as_json:
        print_json(found or {})
        return
    for role, model in (found or {}).items():
        out.print(f"{role:6}  {'  '.join(filter(None, model.values()))}", markup=False, highlight=False)
    if not found:
        err.print(f"queue {name}: no coordinator has served it yet", highlight=False)


def _forget_models(redis_url: str, name: str, *, force: bool) -> None:
    num_unfinished = ask_queue(redis_url, name, lambda client: client.admin.models.forget(force=force))
    if num_unfinished and not force:
        err.print(
            f"queue {name}: {num_unfinished} jobs are unfinished, and their steps are of these models; "
            "let them end, or cancel them, or use --force",
            highlight=False,
        )
        raise typer.Exit(1)
    err.print(f"queue {name}: the next coordinator may serve it with its models", highlight=False)


def _format_findings(num_found: int, name: str, *, is_repaired: bool) -> str:
    if num_found == 0:
        return f"queue {name}: nothing is wrong"
    what = "was wrong, and is repaired" if is_repaired else "is wrong; --repair mends it"
    return f"queue {name}: {num_found} {'thing' if num_found == 1 else 'things'} {what}"


def _format_counts(found: QueueStats) -> str:
    parts = [f"waiting {found.lag}", f"in flight {found.pending}", f"delayed {found.delayed}", f"dead {found.dead}"]
    if found.max_jobs is not None:
        parts.append(f"limit {found.max_jobs}")
    return "   ".join([*parts, "PAUSED"] if found.is_paused else parts)
