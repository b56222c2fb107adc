"""A board as we write it down: rows of panels, each with its queries and a sentence that says how to read it.

Everything else is made from this: Grafana's JSON (``grafana_json.py``), the check against a running system
(``check.py``), the pictures (``pictures.py``) and ``docs/dashboards.md`` (``document.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

WIDTH = 24  # columns of Grafana's grid
NUMBER_HEIGHT = 4  # lines of it
GREEN, ORANGE, RED, BLUE, PURPLE, GREY = "green", "orange", "red", "blue", "purple", "#8e8e8e"


class Kind(StrEnum):
    """How a panel shows its series. Numbers and bars show one moment, the others the whole time range."""

    NUMBER = "number"
    LINES = "lines"
    STACK = "stack"
    BARS = "bars"  # a bar for each value of a label
    HEATMAP = "heatmap"  # of a histogram's buckets
    TEXT = "text"

    @property
    def is_instant(self) -> bool:
        return self in {Kind.NUMBER, Kind.BARS}


class Needs(StrEnum):
    """What a panel needs that a laptop has not. The check lists such panels with this reason, and no others."""

    GPU = "needs an NVIDIA GPU: gsi_gpu_* come from NVML"
    KEDA = "needs Kubernetes with KEDA: keda_* are its operator's series"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL with Grafana's variables. ``legend``: with ``{{label}}``; of bars, the label that the bars stand for."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``unit`` is Grafana's name of it; ``steps`` are (from this value on, colour), the first from -inf.

    ``is_main``: it is in the board's picture. ``colours``: by what the legend shows. ``words``: what a number shows in
    place of these values.
    """

    title: str
    description: str
    kind: Kind
    queries: Sequence[Query] = ()
    unit: str = "short"
    width: int = 12
    height: int = 8
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    steps: Sequence[tuple[float, str]] = ()
    colours: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[int, str] = field(default_factory=dict)
    needs: Needs | None = None
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading; they flow from left to right as their widths allow."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """A board. ``uid`` names it in links and is the name of its file."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]

    @property
    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels


def number(title: str, description: str, queries: Sequence[Query], **shown: Any) -> Panel:
    """Return a number of a board's first row, which is in its picture too; ``shown`` are other fields of the panel."""
    return Panel(title, description, Kind.NUMBER, queries, height=NUMBER_HEIGHT, is_main=True, **shown)


def where_to_look(sections: str) -> Row:
    """Return a board's last row: which documents say more, and which sections of the runbook."""
    text = (
        "What to do, also for each alert: docs/runbook.md "
        f"({sections}). What each panel means: docs/dashboards.md. What each series means: docs/metrics.md."
    )
    return Row("Where to look", [Panel("Documents", text, Kind.TEXT, width=WIDTH, height=3)])


def placed(panels: Sequence[Panel]) -> Iterator[tuple[Panel, int, int]]:
    """Yield each panel with its column and its line in the grid, from left to right and from the top, at 0."""
    column = line = deepest = 0
    for panel in panels:
        if column + panel.width > WIDTH:
            column, line = 0, deepest
        yield panel, column, line
        column, deepest = column + panel.width, max(deepest, line + panel.height)
