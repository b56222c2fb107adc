"""Record a command in a terminal of its own as an animated SVG.

``python scripts/record_terminal.py OUT.svg COMMAND …``

The command really runs. What its screen showed is played faster, and ends with the last screen, which is also what a
reader sees who asked for less motion. The colours follow the reader's light or dark mode.
"""

import argparse
import os
import pty
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import pyte

COLUMNS, LINES = 100, 44
CELL_WIDTH, LINE_HEIGHT, FONT_SIZE, MARGIN, TITLE_HEIGHT = 8.4, 19, 14, 16, 34
SPEED = 4.0  # times as fast as it ran
INTERVAL = 0.25  # seconds between two looks at the screen
LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "edge": "#d1d9e0", "faint": "#818b98"}
LIGHT |= {"red": "#cf222e", "green": "#1a7f37", "cyan": "#0969da", "yellow": "#9a6700", "magenta": "#8250df"}
DARK = {"paper": "#0d1117", "ink": "#e6edf3", "edge": "#3d444d", "faint": "#9198a1"}
DARK |= {"red": "#ff7b72", "green": "#3fb950", "cyan": "#58a6ff", "yellow": "#d29922", "magenta": "#bc8cff"}
NAMES = {"brown": "yellow", "blue": "cyan"}  # pyte's names of colours, where ours differ


@dataclass(frozen=True, slots=True)
class Run:
    """Characters of one style that stand side by side."""

    column: int
    text: str
    colour: str
    is_bold: bool


@dataclass(slots=True)
class Shown:
    """A line of the screen from one moment to another, in seconds. ``until`` None: to the end."""

    row: int
    runs: tuple[Run, ...]
    since: float
    until: float | None = None


def record(command: Sequence[str]) -> tuple[list[Shown], float]:
    """Run the command; return each line that the screen has shown, and the seconds that the command took."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    started = looked = time.monotonic()
    lines: list[Shown] = []
    for output in _run(command):
        stream.feed(output)
        if time.monotonic() - looked >= INTERVAL:
            looked = time.monotonic()
            _look(screen, lines, looked - started)
    _look(screen, lines, time.monotonic() - started)
    return lines, time.monotonic() - started


def _run(command: Sequence[str]) -> Iterator[bytes]:
    """Run a command in a terminal; yield its output. Raises SystemExit if it fails."""
    pid, terminal = pty.fork()
    if pid == 0:
        size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color"}
        os.execvpe(command[0], [*command], os.environ | size)
    while True:
        try:
            yield os.read(terminal, 65536)
        except OSError:  # the end: Linux says EIO when the last process has closed the terminal
            break
    if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit(f"{command[0]} ended with {code}")


def _look(screen: pyte.Screen, lines: list[Shown], now: float) -> None:
    """Note which lines have changed."""
    current = {line.row: line for line in lines if line.until is None}
    for row in range(LINES):
        runs = tuple(_list_runs(screen, row))
        if row in current and current[row].runs == runs:
            continue
        if row in current:
            current[row].until = now
        if runs:
            lines.append(Shown(row, runs, now))


def _list_runs(screen: pyte.Screen, row: int) -> Iterator[Run]:
    cells = [(column, screen.buffer[row][column]) for column in range(COLUMNS)]
    for (colour, is_bold), group in groupby(cells, key=lambda cell: (cell[1].fg, cell[1].bold)):
        found = list(group)
        text = "".join(cell.data for _, cell in found)
        if text.strip():
            yield Run(found[0][0], text.rstrip(), NAMES.get(colour, colour), is_bold)


def draw(command: str, lines: Sequence[Shown], seconds: float) -> str:
    """Return the recording as SVG."""
    rows = max(line.row for line in lines if line.until is None) + 1
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, rows * LINE_HEIGHT + TITLE_HEIGHT + 2 * MARGIN
    title = f"$ {command}"
    note = f"{seconds:.0f} s, played {SPEED:.0f} times as fast"
    body = "\n".join(_draw_line(line) for line in lines)
    size = f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size}>
<title>{escape(title)}</title>
<style>
{_write_colours(LIGHT)}
@media (prefers-color-scheme: dark) {{ {_write_colours(DARK)} }}
text {{ font: {FONT_SIZE}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; }}
.bold {{ font-weight: bold; }}
.past {{ visibility: hidden; }}
@keyframes show {{ from {{ visibility: hidden; }} to {{ visibility: visible; }} }}
@keyframes hide {{ from {{ visibility: visible; }} to {{ visibility: hidden; }} }}
@media (prefers-reduced-motion: reduce) {{ g {{ animation: none !important; }} }}
</style>
<rect class="paper edge" x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>
<text class="bold ink" x="{MARGIN}" y="{MARGIN + FONT_SIZE}">{escape(title)}</text>
<text class="faint" x="{width - MARGIN:.0f}" y="{MARGIN + FONT_SIZE}" text-anchor="end">{escape(note)}</text>
{body}
</svg>
"""


def _draw_line(line: Shown) -> str:
    """Return a line of the screen, which is seen while it was shown."""
    since, until = line.since / SPEED, None if line.until is None else line.until / SPEED
    animations = [f"show 1ms {since:.2f}s both steps(1, end)"]
    if until is not None:
        animations = [f"hide {max(until - since, 0.01):.2f}s {since:.2f}s steps(1, end)"]
    y = TITLE_HEIGHT + MARGIN + line.row * LINE_HEIGHT + FONT_SIZE
    runs = "".join(
        f'<text class="{run.colour if run.colour in LIGHT else "ink"}{" bold" if run.is_bold else ""}" '
        f'x="{MARGIN + run.column * CELL_WIDTH:.1f}" y="{y}" textLength="{len(run.text) * CELL_WIDTH:.1f}">'
        f"{escape(run.text)}</text>"
        for run in line.runs
    )
    kind = "" if until is None else ' class="past"'
    return f'<g{kind} style="animation: {", ".join(animations)}">{runs}</g>'


def _write_colours(colours: dict[str, str]) -> str:
    fills = " ".join(f".{name} {{ fill: {value}; }}" for name, value in colours.items() if name != "edge")
    return f"{fills} .edge {{ stroke: {colours['edge']}; }}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    lines, seconds = record(given.command)
    shown = " ".join([Path(given.command[0]).name, *given.command[1:]])
    given.out.write_text(draw(shown, lines, seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
