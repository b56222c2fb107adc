"""A bar of jobs on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gsi.jobs.reader import JobRecord


@contextmanager
def job_progress(
    total: int | None, console: Console | None = None, *, is_shown: bool = True
) -> Iterator[Callable[[JobRecord], None]]:
    """Show a bar of ``total`` jobs (None: unknown) while this is open; yield a function that counts a finished one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[failed]}[/]"),
    )
    num_failed = 0
    console = console or Console(stderr=True)
    is_hidden = not (is_shown and (console.is_terminal or console.is_jupyter))
    is_shared = sys.stdout.isatty()  # a file or a pipe must get what is printed; a terminal, above the bar
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=is_shared, disable=is_hidden)
    with bar as progress:
        task = progress.add_task("jobs", total=total, failed="")

        def advance(record: JobRecord) -> None:
            nonlocal num_failed
            num_failed += not record.has_succeeded
            progress.update(task, advance=1, failed=f"{num_failed} without an answer" if num_failed else "")

        yield advance
