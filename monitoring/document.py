"""``docs/dashboards.md``: what each panel shows, from the boards' code."""

from collections.abc import Sequence
from pathlib import Path

from monitoring.board import Board, Panel

PICTURES = Path(__file__).parents[1] / "docs" / "dashboards"

INTRODUCTION = """\
# Dashboards

Six boards for Grafana, written as code in `monitoring/` and committed as JSON in `helm/dashboards/`. The chart ships
them as ConfigMaps that Grafana's sidecar finds; you can also import them by hand. `make dashboards ARGS=--write` writes
the JSON and this page from the code. `make dashboards` runs the system under a real Prometheus and checks that every
query has an answer ([why without Grafana](decisions/0021-dashboards-are-code-and-checked-without-grafana.md)).

At the top of each board, choose the data source, then namespace, release, queue and model. The default is "All", which
also shows series without the label, so a Prometheus with other labels shows everything together. Choosing a model hides
the coordinators and services that are known to run other models. Panels add up the coordinators' values. Where each
coordinator reports the whole queue, they show the largest value, so that one coordinator and fifty look the same.
Where the chart knows the address of the gateway's web page (`monitoring.dashboards.gatewayUrl`) and of the runbook
(`monitoring.prometheusRule.runbookUrl`), boards and panels link to them: a value leads to the jobs it is about, and a
job to its [trace](trace.md). A board that you import by hand has no such links.
What each series means: [metrics.md](metrics.md). What to do: [runbook.md](runbook.md).

The pictures are our drawings of the same queries, from a run of `make dashboards ARGS=--draw` on a machine with two
cores and no GPU. They are not screenshots of Grafana, and they show the main panels only. The second half of the run is
full of faults: a coordinator is killed, another is stopped, and the jobs of a queue with a very short deadline die.
Speculation does not save time there, since three small engines compete for two cores.
"""


def render_document(boards: Sequence[Board]) -> str:
    """Return the page's text."""
    return "\n".join([INTRODUCTION, *(_render_board(board) for board in boards)])


def _render_board(board: Board) -> str:
    lines = [f"## {board.title}", "", board.description]
    if (PICTURES / f"{board.uid}.png").exists():  # a new board has none before make dashboards ARGS=--draw
        lines += ["", f"![Our drawing of the board's main panels](dashboards/{board.uid}.png)"]
    for row in board.rows:
        lines += ["", f"**{row.title}**", "", "| panel | how to read it |", "|---|---|"]
        lines += [f"| {panel.title} | {_render_description(panel)} |" for panel in row.panels]
    return "\n".join(lines) + "\n"


def _render_description(panel: Panel) -> str:
    need = f" *{panel.needs[0].upper()}{panel.needs[1:]}.*" if panel.needs else ""
    return panel.description.replace("|", "\\|") + need
