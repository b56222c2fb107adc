"""Tables in Markdown, and how their cells are printed, for every report of this package."""

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tabulate import tabulate

from gsi.evaluation.estimates import Estimate
from gsi.runtime.printable import replace_controls

NONE = "-"  # there is no such figure
PREFIXES = ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"), (1, ""))
SHOWN_CHARACTERS = 60  # of an answer or an error


class Named(Protocol):
    """A figure of a method at one n."""

    @property
    def label(self) -> str: ...

    @property
    def n(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, its cells as they are printed."""

    title: str
    cells: Sequence[str]
    is_number: bool = True


def write_table(columns: Sequence[Column]) -> str:
    """Return a Markdown table, aligned in its source too; a column without any figure is left out."""
    shown = [column for column in columns if any(cell != NONE for cell in column.cells)]
    return tabulate(
        list(zip(*(column.cells for column in shown), strict=True)),
        headers=[column.title for column in shown],
        tablefmt="pipe",
        colalign=["right" if column.is_number else "left" for column in shown],
        disable_numparse=True,
    )


def format_percent(share: float | None) -> str:
    """Return a share in percent."""
    return NONE if share is None else f"{100 * share:.1f}"


def format_percent_with_interval(share: Estimate | None, sign: str = "", digits: int = 1) -> str:
    """Return a share in percent, with its interval if it has one; sign "+" shows a plus, ``digits`` are of the ends."""
    if share is None:
        return NONE
    value = f"{100 * share.value:{sign}.1f}"
    if not math.isfinite(share.high - share.low):
        return value
    return f"{value} [{100 * share.low:{sign}.{digits}f}, {100 * share.high:{sign}.{digits}f}]"


def format_whole(number: float) -> str:
    """Return a number of tokens."""
    return f"{number:,.0f}"


def format_significant(value: float | None) -> str:
    """Return a number with three significant digits, but all digits before the point and at most two behind it."""
    if value is None:
        return NONE
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def make_name_columns(rows: Sequence[Named]) -> list[Column]:
    """Return the columns that name a line: the method and its n."""
    return [
        Column("method", [escape_cell(row.label) for row in rows], is_number=False),
        Column("n", [str(row.n) for row in rows]),
    ]


def find_prefix(value: float) -> tuple[int, str]:
    """Return the largest unit that is not above the value, and its prefix."""
    return next(((unit, prefix) for unit, prefix in PREFIXES if value >= unit), (1, ""))


def format_size(num_parameters: int) -> str:
    """Return a number of parameters as the field writes it: 1.54 B."""
    unit, prefix = find_prefix(num_parameters)
    return f"{format_significant(num_parameters / unit)} {prefix.replace('G', 'B')}" if prefix else str(num_parameters)


def wrap_note(note: str) -> str:
    """Return a paragraph in lines of at most 120 characters."""
    return textwrap.fill(note, 120, break_long_words=False, break_on_hyphens=False)


def escape_cell(text: str) -> str:
    """Return a text as it can stand in a cell: on one line, bars escaped, control characters replaced."""
    return replace_controls(" ".join(text.split())).replace("|", "\\|")


def format_code(text: str | None) -> str:
    """Return a text of a user or a model as code, cut if it is long. No character can break out of the code."""
    if text is None:
        return NONE
    flat = escape_cell(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
    if not flat:
        return "(empty)"
    fence = "`" * (1 + max(map(len, re.findall("`+", flat)), default=0))
    return f"{fence}{flat}{fence}" if "`" not in flat else f"{fence} {flat} {fence}"
