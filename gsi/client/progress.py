"""A bar of jobs on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gsi.jobs.reader import JobRecord


@contextmanager
def job_progress(total: int | None, console: Console | None = None) -> Iterator[Callable[[JobRecord], None]]:
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
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as progress:
        task = progress.add_task("jobs", total=total, failed="")

        def advance(record: JobRecord) -> None:
            nonlocal num_failed
            num_failed += not record.has_succeeded
            progress.update(task, advance=1, failed=f"{num_failed} without an answer" if num_failed else "")

        yield advance
