"""The three boards, and the files that are made from them."""

from collections.abc import Iterator
from pathlib import Path

from monitoring.board import Board
from monitoring.document import document
from monitoring.engines_board import ENGINES_BOARD
from monitoring.grafana_json import grafana_json
from monitoring.queue_board import QUEUE
from monitoring.speculation_board import SPECULATION

BOARDS: tuple[Board, ...] = (SPECULATION, QUEUE, ENGINES_BOARD)
ROOT = Path(__file__).parents[1]


def generated() -> Iterator[tuple[Path, str]]:
    """Yield path and text of every committed file that the boards' code says all of."""
    for board in BOARDS:
        yield ROOT / "helm" / "dashboards" / f"{board.uid}.json", grafana_json(board, BOARDS)
    yield ROOT / "docs" / "dashboards.md", document(BOARDS)


def write() -> None:
    """Write them."""
    for path, text in generated():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
