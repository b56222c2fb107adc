"""``gsi top``: a queue in the terminal, live. Textual draws it; ``gsi/jobs/board.py`` says what there is to draw."""

import time
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Static

from gsi.cli.render import STATE_STYLES, format_age
from gsi.client.sdk import AsyncClient
from gsi.errors import InvalidRequestError, MisconfiguredError, RetryableError
from gsi.jobs.board import Board
from gsi.jobs.listing import JobSummary
from gsi.jobs.progress import Progress
from gsi.runtime.printable import join_lines, replace_controls

LOOK_SECONDS = 1.0
NUM_JOBS = 100
COLUMNS = ("id", "state", "method", "steps", "accepted", "age", "last step, answer or error")


class Top(App[None]):
    """Shows the queue of a client until it is told to quit. A server that is away is named, and waited for."""

    CSS = "#head { height: auto; padding: 0 1; } DataTable { height: 1fr; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar = [
        Binding("p", "pause_or_resume", "pause or resume"),
        Binding("c", "cancel", "cancel the job"),
        Binding("r", "retry", "retry the dead job"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, client: AsyncClient, queue: str) -> None:
        super().__init__()
        self._client = client
        self._queue = queue
        self._board = client.board(NUM_JOBS)
        self._shown: Board | None = None

    def compose(self) -> ComposeResult:
        """Lay out what is shown: counts, jobs, keys."""
        yield Static(f"queue {self._queue}: …", id="head", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Footer()

    async def on_mount(self) -> None:
        """Look at once, and then every second."""
        table = self.query_one(DataTable)
        for name in COLUMNS:
            table.add_column(name, key=name)
        table.focus()
        await self.look()
        self.set_interval(LOOK_SECONDS, self.look)

    async def look(self) -> None:
        """Look at the queue and show it."""
        try:
            self._shown = await self._board.look()
        except (RetryableError, MisconfiguredError) as error:
            self.query_one("#head", Static).update(Text(str(error), style="red"))
            return
        self.query_one("#head", Static).update(_describe(self._queue, self._shown))
        self._show_jobs(self._shown)

    def _show_jobs(self, board: Board) -> None:
        """Show the jobs; the cursor stays on its job."""
        table = self.query_one(DataTable)
        selected, now = self._selected(), time.time()
        table.clear()
        for job in board.jobs:
            table.add_row(*_row(job, board.progress.get(job.id, Progress()), now), key=job.id)
        places = [place for place, job in enumerate(board.jobs) if job.id == selected]
        if places:
            table.move_cursor(row=places[0])

    def _selected(self) -> str | None:
        table = self.query_one(DataTable)
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    async def action_pause_or_resume(self) -> None:
        """Pause the queue, or resume it."""
        if self._shown is not None:
            admin = self._client.admin
            await (admin.resume() if self._shown.is_paused else admin.pause())
            await self.look()

    async def action_cancel(self) -> None:
        """Cancel the selected job."""
        if job_id := self._selected():
            state = await self._client.cancel(job_id, "cancelled in gsi top")
            self.notify(
                f"{job_id} had finished already" if state.is_finished else f"{job_id} is cancelled", markup=False
            )
            await self.look()

    async def action_retry(self) -> None:
        """Push the selected job again, if it is dead."""
        if job_id := self._selected():
            try:
                await self._client.dead.retry(job_id)
            except InvalidRequestError as error:
                self.notify(str(error), severity="warning", markup=False)
            await self.look()


def _describe(queue: str, board: Board) -> Text:
    """Return the counts of a queue on three lines."""
    finished = board.finished_last_minute
    ends = "  ".join(f"{number} {state.value.lower()}" for state, number in sorted(finished.items())) or "none"
    held = "  ".join(f"{name} ({number})" for name, number in board.coordinators.items())
    acceptance = "-" if board.acceptance is None else f"{board.acceptance:.0%}"
    return Text.assemble(
        (f"queue {queue}", "bold"),
        ("  PAUSED" if board.is_paused else "", "bold yellow"),
        f"  waiting {board.num_waiting}  running {board.num_running}  delayed {board.num_delayed}"
        f"  parked {board.num_parked}  dead {board.num_dead}\n",
        f"finished in the last minute: {ends}; accepted steps: {acceptance}\n",
        (f"coordinators (jobs): {held}", "") if held else ("no coordinator reads this queue", "red"),
    )


def _row(job: JobSummary, progress: Progress, now: float) -> tuple[Text, ...]:
    said = job.answer or job.error or progress.last_text
    accepted = f"{progress.num_accepted / progress.num_steps:.0%}" if progress.num_steps else "-"
    age = "-" if job.submitted_at is None else format_age(max(0.0, now - job.submitted_at))
    state = Text(job.state.value, style=STATE_STYLES.get(job.state, "yellow"))
    shown = Text(replace_controls(join_lines(said)), no_wrap=True)
    return (Text(job.id), state, Text(job.method or "-"), Text(str(job.num_steps)), Text(accepted), Text(age), shown)
