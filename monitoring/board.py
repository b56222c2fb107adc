"""A board in code: rows of panels, each with its queries and a description of how to read it.

Other modules make from it Grafana's JSON (``grafana_json.py``), the check against a running system (``check.py``), the
pictures (``pictures.py``) and ``docs/dashboards.md`` (``document.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

WIDTH = 24  # columns of Grafana's grid
NUMBER_HEIGHT = 4  # lines of Grafana's grid
GREEN, ORANGE, RED, BLUE, PURPLE, GREY = "green", "orange", "red", "blue", "purple", "#8e8e8e"


class Kind(StrEnum):
    """How a panel shows its series. Numbers and bars show one moment, other kinds the whole time range."""

    NUMBER = "number"
    LINES = "lines"
    STACK = "stack"
    BARS = "bars"  # a bar for each value of a label
    HEATMAP = "heatmap"  # shows a histogram's buckets
    TEXT = "text"

    @property
    def is_instant(self) -> bool:
        return self in {Kind.NUMBER, Kind.BARS}


class Needs(StrEnum):
    """What a panel needs and a laptop lacks. The check exempts these panels, with this reason, and no other panels."""

    GPU = "needs an NVIDIA GPU: gsi_gpu_* come from NVML"
    KEDA = "needs Kubernetes with KEDA: keda_* are its operator's series"
    CLUSTER = "needs Kubernetes with kube-state-metrics: kube_* are its series"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL with Grafana's variables.

    ``legend`` is a text that may contain ``{{label}}``. For bars it is the label whose values the bars stand for.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    ``unit`` is Grafana's name of the unit. ``steps`` are pairs of threshold and colour; the first colour starts at
    -inf. ``colours`` are by the text in the legend. ``words`` replace these values of a number. A panel with
    ``is_main`` is in the board's picture. ``page`` is the route of the gateway's web page to which its values lead,
    with Grafana's variables; ``alert`` the alert whose section of the runbook is about the panel. Both become links
    where the chart knows the addresses (``links.py``).
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
    page: str = ""
    alert: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading. They flow from left to right as their widths allow."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """A board. Its ``uid`` is used in links and as the name of its file."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]

    @property
    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels


def make_number(title: str, description: str, queries: Sequence[Query], **fields: Any) -> Panel:
    """Return a number for a board's first row, which its picture also shows. ``fields`` are further panel fields."""
    return Panel(title, description, Kind.NUMBER, queries, height=NUMBER_HEIGHT, is_main=True, **fields)


def make_redis_number(description: str, expression: str) -> Panel:
    """Return the number that says whether Redis is reachable: 1, or 0."""
    return make_number(
        "Redis",
        description,
        [Query(expression)],
        width=3,
        steps=((0, RED), (1, GREEN)),
        words={0: "away", 1: "reachable"},
        alert="GsiRedisAway",
    )


def make_reached_number(title: str, expression: str, alert: str) -> Panel:
    """Return how many processes Prometheus reaches now; ``title`` names them, and ``alert`` fires without any."""
    return make_number(
        title,
        f"{title} that Prometheus reaches now.",
        [Query(expression)],
        width=3,
        decimals=0,
        steps=((0, RED), (1, GREEN)),
        alert=alert,
    )


def make_documents_row(sections: str) -> Row:
    """Return a board's last row, which names the documents to read and the sections of the runbook."""
    text = (
        "What to do, also for each alert: docs/runbook.md "
        f"({sections}). What each panel means: docs/dashboards.md. What each series means: docs/metrics.md."
    )
    return Row("Where to look", [Panel("Documents", text, Kind.TEXT, width=WIDTH, height=3)])


def place_panels(panels: Sequence[Panel]) -> Iterator[tuple[Panel, int, int]]:
    """Yield each panel with its column and its line in the grid, both counted from 0."""
    column = line = deepest = 0
    for panel in panels:
        if column + panel.width > WIDTH:
            column, line = 0, deepest
        yield panel, column, line
        column, deepest = column + panel.width, max(deepest, line + panel.height)
