"""Links from the boards to the gateway's web page and to the runbook: ``helm/board-links.json``.

The boards' own files have none, since nobody knows the addresses before an installation does, and a board shows no dead
link. The chart merges these parts into the boards, those of each address that it is given.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from monitoring.board import Board, Panel

GATEWAY, RUNBOOK = "GATEWAY_URL", "RUNBOOK_URL"  # what the chart replaces
PAGES = {"Queue, live": "/queue", "Jobs and traces": "/jobs"}  # of the web page, on every board


def render_links(boards: Sequence[Board]) -> str:
    """Return the text of the file: for each address, by board, the board's own links and changes of panels by title."""
    parts = {
        "gateway": {board.uid: _make_gateway_part(board) for board in boards},
        "runbook": {board.uid: _make_runbook_part(board) for board in boards},
    }
    return json.dumps(parts, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _make_gateway_part(board: Board) -> Mapping[str, Any]:
    panels = {panel.title: _make_data_links(panel) for panel in board.panels if panel.page}
    return {"links": [_make_board_link(title, _page(route)) for title, route in PAGES.items()], "panels": panels}


def _make_runbook_part(board: Board) -> Mapping[str, Any]:
    panels = {
        panel.title: {"links": [_make_link(f"Runbook: {panel.alert}", f"{RUNBOOK}#{panel.alert.lower()}")]}
        for panel in board.panels
        if panel.alert
    }
    return {"links": [_make_board_link("Runbook", RUNBOOK)], "panels": panels}


def _make_data_links(panel: Panel) -> Mapping[str, Any]:
    """Return the change of a panel that lets each of its values lead to the web page."""
    return {"fieldConfig": {"defaults": {"links": [_make_link("Jobs on the web page", _page(panel.page))]}}}


def _page(route: str) -> str:
    return f"{GATEWAY}/#{route}"


def _make_link(title: str, url: str) -> Mapping[str, Any]:
    return {"title": title, "url": url, "targetBlank": True}


def _make_board_link(title: str, url: str) -> Mapping[str, Any]:
    return {
        **_make_link(title, url),
        "asDropdown": False,
        "icon": "external link",
        "includeVars": False,
        "keepTime": False,
        "tags": [],
        "tooltip": "",
        "type": "link",
    }
