"""What the commands share: consoles, options, errors as one line and an exit code."""

import asyncio
import json
import sys
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from gsi.client.sdk import AsyncClient
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError
from gsi.jobs.connection import LOST_CONNECTION, REFUSED
from gsi.runtime.installation import how_to_install
from gsi.runtime.printable import escape_controls, join_lines, replace_controls


class SafeConsole(Console):
    """A console that writes its own control sequences alone: those in a text come from a queue or a model.

    rich shows whatever it prints as Text; it removes some control characters, but not those of escape sequences.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text):
            renderable = renderable.copy()
            renderable.plain = replace_controls(renderable.plain)
        return super().render(renderable, options)


out = SafeConsole()
err = SafeConsole(stderr=True)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_LATER = 75  # as sysexits.h: try again later
EXIT_INTERRUPTED = 130  # the exit status of a shell after SIGINT

RedisUrl = Annotated[str, typer.Option("--redis-url", envvar="GSI_REDIS_URL", help="URL of Redis.")]
Queue = Annotated[str, typer.Option("--queue", envvar="GSI_QUEUE", help="Name of the queue.")]
Engine = Annotated[
    str | None, typer.Option(help="Runtime of the three models: transformers or vllm. [default: GSI_<ROLE>_ENGINE]")
]
Merged = Annotated[
    bool,
    typer.Option(
        "--merged",
        help="Serve target and PRM, which gsi merge wrote, from one process, with one pass for both.",
    ),
]
Param = Annotated[
    list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter, such as n=4. Repeatable.")
]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn an error that a user can mend into one line and an exit code."""
    try:
        yield
    except REFUSED as error:
        err.print(f"[red]Redis refuses[/]  {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None
    except LOST_CONNECTION as error:
        err.print(
            f"[red]no Redis[/]  {escape(str(error))} Is it running (gsi up)? --redis-url or GSI_REDIS_URL names it.",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_FAILED) from None
    except InvalidRequestError as error:
        err.print(f"[red]refused[/]  {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_USAGE) from None
    except RetryableError as error:
        err.print(f"[yellow]not now[/]  {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_LATER) from None
    except MisconfiguredError as error:
        err.print(f"[red]cannot start[/]  {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None
    except InternalError as error:
        err.print(f"[red]failed[/]  {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None
    except BrokenPipeError:
        raise  # whoever read the output has gone
    except OSError as error:  # a folder that cannot be written, a full disk, a port in use; a time-out says of what
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        err.print(f"[red]failed[/]  {escape(what)}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def notify(notice: str) -> None:
    """Show why a wait may be long."""
    err.print(f"[yellow]waiting[/]  {escape(notice)}", highlight=False, soft_wrap=True)


def connect(redis_url: str, queue: str) -> AsyncClient:
    """Return a client that says on standard error why a wait may be long."""
    return AsyncClient(redis_url, queue, notify=notify)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, with no raw control character in it."""
    print(format_json(value, sys.stdout.encoding))


def format_json(value: Any, encoding: str) -> str:
    """Return a value as one line of JSON for a terminal or file of this encoding, which the locale chooses."""
    return escape_controls(json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf")))


def import_evaluation(name: str) -> Any:
    """Import a module of ``gsi.evaluation``, an optional part. Raises MisconfiguredError if it is not installed."""
    try:
        return import_module(f"gsi.evaluation.{name}")
    except ModuleNotFoundError as error:
        raise MisconfiguredError(f"evaluation is not installed ({error}): {how_to_install('eval')}") from error


def import_findings() -> Any:
    """Import ``gsi.cli.findings``. Raises MisconfiguredError if what calls services is not installed."""
    try:
        return import_module("gsi.cli.findings")
    except ModuleNotFoundError as error:
        raise MisconfiguredError(f"gsi check is not installed ({error}): {how_to_install('service')}") from error


def import_top() -> Any:
    """Import ``gsi.cli.top``. Raises MisconfiguredError if Textual, an optional part, is not installed."""
    try:
        return import_module("gsi.cli.top")
    except ModuleNotFoundError as error:
        raise MisconfiguredError(f"gsi top is not installed ({error}): {how_to_install('top')}") from error


def read_params(given: list[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE pairs; a value is JSON if it can be, else text."""
    params: dict[str, Any] = {}
    for pair in given or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequestError(f"--param {pair}: no value; allowed: NAME=VALUE, such as n=4")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params


def show_event(process: str, event: Mapping[str, Any]) -> None:
    """Show the lines of a process's log that a person at the terminal needs: ready, warnings and errors."""
    if event.get("event") == "ready":
        shown = event.get("address", event.get("queue", ""))
        err.print(Text.assemble(("ready", "green"), f"  {process:<14} {shown}"))
    elif event.get("level") in {"warning", "error", "critical"}:
        rest = {k: v for k, v in event.items() if k not in {"event", "level", "timestamp", "role", "exception"}}
        details = "  ".join(f"{name}={join_lines(str(value))}" for name, value in rest.items())
        said = f"  {process:<14} {join_lines(str(event.get('event', '')))}  {details}"
        err.print(Text.assemble((event["level"], "yellow"), said))  # not markup: values are text of jobs
