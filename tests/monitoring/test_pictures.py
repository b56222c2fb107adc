"""The pictures of the boards: readable numbers, and no box for what the machine lacks."""

from collections.abc import Callable

import pytest

from monitoring.board import Board, Kind, Needs, Panel, Query, Row
from monitoring.pictures import draw_board
from monitoring.prometheus_server import Answer


def panel(title: str, needs: Needs | None) -> Panel:
    return Panel(title, "-", Kind.LINES, [Query(title, "all")], needs=needs, is_main=True)


BOARD = Board("-", "-", "-", [Row("-", [panel("calls", None), panel("GPU memory", Needs.GPU)])])


def asking(*titles: str) -> Callable[[Panel, Query], list[Answer]]:
    """Return what answers for these panels: two thousand of them, second after second."""

    def ask(asked: Panel, _: Query) -> list[Answer]:
        return [Answer({}, [(float(second), 2000.0) for second in range(10)])] if asked.title in titles else []

    return ask


@pytest.mark.parametrize(("with_data", "drawn"), [(("calls",), 1), (("calls", "GPU memory"), 2)])
def test_a_panel_for_hardware_that_is_missing_is_left_out(with_data: tuple[str, ...], drawn: int) -> None:
    """With the hardware it is drawn."""
    assert len(draw_board(BOARD, asking(*with_data), 0.0).axes) == drawn


def test_thousands_are_written_out() -> None:
    """On an axis too, where three digits would become 1e+03."""
    (axes,) = draw_board(BOARD, asking("calls"), 0.0).axes
    written = [axes.yaxis.get_major_formatter()(value, None) for value in (1000.0, 25_000.0, 12.5)]
    assert written == ["1,000", "25,000", "12.5"]


def test_bytes_are_mebibytes() -> None:
    """A number of nine digits does not fit beside an axis."""
    memory = Panel("calls", "-", Kind.LINES, [Query("calls", "all")], unit="bytes", is_main=True)
    (axes,) = draw_board(Board("-", "-", "-", [Row("-", [memory])]), asking("calls"), 0.0).axes
    assert axes.yaxis.get_major_formatter()(256.0 * 2**20, None) == "256 MiB"
