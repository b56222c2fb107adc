"""The command ``gsi``: a table of its subcommands, whose modules are imported when they are called.

Answers go to standard output; progress, warnings and errors to standard error.
"""

import sys
from io import TextIOWrapper
from pkgutil import resolve_name
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

import gsi
from gsi.runtime.interrupts import silent_interrupts

# By name: where it is, and what ``gsi --help`` says of it.
COMMANDS: Final = {
    "submit": (
        "gsi.cli.submit:submit",
        "Push jobs and print their ids, one on each line. If a job is invalid, no job is pushed.",
    ),
    "run": (
        "gsi.cli.run_file:run_file",
        "Run a file's jobs; write a result for each line. The same command resumes. Exit 1 if a line has no answer.",
    ),
    "follow": ("gsi.cli.submit:follow", "Show a job's steps as they are kept, until the job has finished."),
    "result": (
        "gsi.cli.submit:result",
        "Show the answers of jobs in the order given; exit 1 if one has no answer, 2 if one is unknown.",
    ),
    "jobs": ("gsi.cli.jobs:list_jobs", "List the newest jobs of a queue, the last submitted first."),
    "top": ("gsi.cli.jobs:top", "Show a queue live in the terminal: counts, coordinators, jobs; cancel, retry, pause."),
    "up": ("gsi.cli.system:up", "Run the whole system on this machine, in this terminal, until Ctrl-C."),
    "serve": (
        "gsi.cli.serve:serve",
        "Run one process of the system: draft, target, prm, coordinator, exporter or gateway; merged: target and PRM.",
    ),
    "check": ("gsi.cli.check:check", "Check whether three model services work together. Exit 1 if jobs would fail."),
    "check-gateway": (
        "gsi.cli.check_gateway:check_gateway",
        "Ask a gateway a first question with a key of its own; exit 1 if it does not answer as it should.",
    ),
    "demo": (
        "gsi.cli.system:demo",
        "Run held-out problems through the whole system on this machine, and compare GSI with its target.",
    ),
    "cancel": ("gsi.cli.jobs:cancel", "Cancel a job and keep its steps. Exit 1 if the job had finished."),
    "dead": ("gsi.cli.jobs:dead", "Dead jobs: jobs that failed too many times."),
    "eval": (
        "gsi.cli.evaluate:evaluate",
        "Compare methods on a data set. A stopped evaluation resumes where it left off.",
    ),
    "calibrate": (
        "gsi.cli.calibrate:calibrate",
        "Compute from an evaluation's records what other settings would do, run the best few, and recommend a setting.",
    ),
    "theory": (
        "gsi.cli.calibrate:theory",
        "Calculate n of Theorem 1, its KL at a given n, Theorem 2 (GSI paper), and what holds with the test of line 6.",
    ),
    "plan": (
        "gsi.cli.plan:plan",
        "Say what a step and an answer would take on GPUs, by the roofline: phases, memory, jobs an hour, break-even.",
    ),
    "router": ("gsi.cli.router:router", "The router of method arbitrage."),
    "merge": (
        "gsi.cli.merge:merge",
        "Merge a language model and a reward model of one architecture; write both with the same layers.",
    ),
    "keys": ("gsi.cli.keys:keys", "Keys of the gateway's users (GSI_GATEWAY_KEYS=true)."),
    "queue": ("gsi.cli.queue_admin:queue", "Create, pause, limit, inspect and check a queue."),
}


class LazyGroup(TyperGroup):
    """Imports a subcommand's module when the subcommand is called: ``gsi --help`` imports none of them.

    The context's ``obj`` prepares the process for a subcommand.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)  # which refuses a name that is not in the table
        if ctx.obj is not None:
            ctx.obj()
        with silent_interrupts():
            return name, load_command(str(name)), rest


def load_command(name: str) -> Any:
    """Import a subcommand; return it as click has it."""
    found = resolve_name(COMMANDS[name][0])
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)


def not_loaded() -> None:
    """Stand for a subcommand in the list of ``gsi --help``."""


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # to import rich takes longer than all else that --help does
    pretty_exceptions_show_locals=False,  # the address of Redis may hold a password
    help="Guided Speculative Inference: submit, follow, run.",
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"gsi {gsi.__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Guided Speculative Inference: submit, follow, run."""


for _name, (_, _summary) in COMMANDS.items():
    app.command(_name, short_help=_summary)(not_loaded)


def main() -> None:
    """Run the command line. Standard output is for answers, so logs go to standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")  # a locale in which a text of ours, or of a model, cannot be written
    app(obj=lambda: resolve_name("gsi.runtime.process_log:configure_logging")("gsi", "console", "error"))
