"""``docs/dashboards.md``: what each panel shows, from the boards' code."""

from collections.abc import Sequence

from monitoring.board import Board, Panel

INTRODUCTION = """\
# Dashboards

Three boards for Grafana, written as code in `monitoring/` and committed as JSON in `helm/dashboards/`; the chart ships
them as ConfigMaps that Grafana's sidecar finds, and they can be imported by hand. `make dashboards ARGS=--write` writes
the JSON and this page from the code; `make dashboards` runs the system under a real Prometheus and checks that every
query has an answer ([why without Grafana](decisions/0021-dashboards-are-code-and-checked-without-grafana.md)).

At the top of each board: the data source, then namespace, release, queue and model. Each is "All" unless chosen, and
"All" also shows series that lack the label, so that a Prometheus that was set up otherwise shows everything together.
A model leaves out the coordinators and services that are known to run others. Coordinators are added up, except where
they report the queue as a whole: there the largest value counts, so that one coordinator and fifty show the same.
What each series means: [metrics.md](metrics.md). What to do: [runbook.md](runbook.md).

The pictures are our drawings of the same queries, from the run of `make dashboards ARGS=--draw` on a machine with two
cores and no GPU. They are no screenshots of Grafana, and show the main panels only. In the run's second half everything
goes wrong that can: a coordinator is killed, another is stopped, and a queue has so short a deadline that its jobs die.
Speculation does not pay in time there: on two cores three small engines hinder each other.
"""


def document(boards: Sequence[Board]) -> str:
    """Return the page's text."""
    return "\n".join([INTRODUCTION, *(_section(board) for board in boards)])


def _section(board: Board) -> str:
    lines = [
        f"## {board.title}",
        "",
        board.description,
        "",
        f"![Our drawing of the board's main panels]({_picture(board)})",
    ]
    for row in board.rows:
        lines += ["", f"**{row.title}**", "", "| panel | how to read it |", "|---|---|"]
        lines += [f"| {panel.title} | {_cell(panel)} |" for panel in row.panels]
    return "\n".join(lines) + "\n"


def _cell(panel: Panel) -> str:
    need = f" *{panel.needs[0].upper()}{panel.needs[1:]}.*" if panel.needs else ""
    return panel.description.replace("|", "\\|") + need


def _picture(board: Board) -> str:
    return f"dashboards/{board.uid}.png"
