"""The boards, and the files that are generated from them."""

from collections.abc import Iterator
from pathlib import Path

from monitoring.board import Board
from monitoring.document import render_document
from monitoring.engines_board import ENGINES_BOARD
from monitoring.gateway_board import GATEWAY_BOARD
from monitoring.grafana_json import render_grafana_json
from monitoring.links import render_links
from monitoring.queue_board import QUEUE_BOARD
from monitoring.slo_board import SLO_BOARD
from monitoring.speculation_board import SPECULATION_BOARD
from monitoring.tenants_board import TENANTS_BOARD

BOARDS: tuple[Board, ...] = (
    SPECULATION_BOARD,
    QUEUE_BOARD,
    TENANTS_BOARD,
    SLO_BOARD,
    ENGINES_BOARD,
    GATEWAY_BOARD,
)
ROOT = Path(__file__).parents[1]


def render_files() -> Iterator[tuple[Path, str]]:
    """Yield path and text of every committed file that is generated from the boards."""
    yield ROOT / "helm" / "board-links.json", render_links(BOARDS)
    for board in BOARDS:
        yield ROOT / "helm" / "dashboards" / f"{board.uid}.json", render_grafana_json(board, BOARDS)
    yield ROOT / "docs" / "dashboards.md", render_document(BOARDS)


def write_files() -> None:
    """Write the generated files."""
    for path, text in render_files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
