"""Our drawings of a board's main panels from the answers to its queries. They are not screenshots of Grafana.

They look like the plots of ``gsi eval``. They are made without pyplot, so they need no global state and no display.
"""

import math
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gsi.evaluation.plots import COLOURS
from monitoring.board import WIDTH, Board, Kind, Panel, Query, place_panels
from monitoring.prometheus_server import Answer

Ask = Callable[[Panel, Query], list[Answer]]

FIGURE_INCHES, DOTS_PER_INCH = 15.0, 110
INCHES_A_LINE = 0.40  # of Grafana's grid
HEADER_INCHES = 1.0
POINTS_A_COLUMN = 6.4  # font size of a number, so that ten letters fit
LETTER_INCHES, LEGEND_MARK_INCHES = 0.075, 0.55  # approximate widths in a legend
NAMED = {  # our colours for Grafana's names
    "green": COLOURS[2],
    "orange": COLOURS[5],
    "red": COLOURS[1],
    "blue": COLOURS[0],
    "purple": COLOURS[3],
    "yellow": "#F0E442",
}
MANY = (*COLOURS, "#8e8e8e", "#7F5A2B", "#4B3F8F", "#A3C644", "#B2182B", "#5AA9A1")
MARK = (
    "Our drawing of the board's own queries, answered by a real Prometheus during make dashboards (times in seconds of "
    "that run). Not a screenshot of Grafana."
)


def draw_pictures(boards: Sequence[Board], ask: Ask, started: float, folder: Path) -> list[Path]:
    """Write a PNG for each board into ``folder`` and return the paths. ``started`` is the run's first second."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for board in boards:
        paths.append(folder / f"{board.uid}.png")
        draw_board(board, ask, started).savefig(paths[-1], dpi=DOTS_PER_INCH)
    return paths


def draw_board(board: Board, ask: Ask, started: float) -> Figure:
    """Draw a board's main panels where Grafana would put them without the other panels.

    A panel that needs what this machine lacks has no data, and is left out.
    """
    asked = {
        panel.title: [(query, answer) for query in panel.queries for answer in ask(panel, query)]
        for panel in board.panels
        if panel.is_main
    }
    places = list(
        place_panels([p for p in board.panels if p.is_main and (p.needs is None or _name_answers(asked[p.title]))])
    )
    num_lines = max(line + panel.height for panel, _, line in places)
    height = HEADER_INCHES + num_lines * INCHES_A_LINE
    figure = Figure(figsize=(FIGURE_INCHES, height))
    figure.text(0.012, 1 - 0.30 / height, board.title, fontsize=17, weight="bold", va="center")
    figure.text(0.012, 1 - 0.62 / height, MARK, fontsize=10.5, color="#666666", va="center")
    for panel, column, line in places:
        axes = _add_axes(figure, panel, column, line, height)
        named = _name_answers(asked[panel.title])
        if named:
            _DRAW_FUNCTIONS[panel.kind](axes, panel, named, started)
        else:
            _draw_absence(axes, panel)
    return figure


def _add_axes(figure: Figure, panel: Panel, column: int, line: int, height: float) -> Axes:
    """Return axes at a panel's place, with room for title, ticks and legend."""
    left, right = column / WIDTH, (column + panel.width) / WIDTH
    top = height - HEADER_INCHES - line * INCHES_A_LINE
    bottom = top - panel.height * INCHES_A_LINE
    # Left and right as shares of the figure's width, bottom and top in inches.
    margins = (0.012, 0.05, 0.004, 0.05) if panel.kind is Kind.NUMBER else (0.047, 0.85, 0.014, 0.34)
    box = (
        left + margins[0],
        (bottom + margins[1]) / height,
        right - left - margins[0] - margins[2],
        (top - bottom - margins[1] - margins[3]) / height,
    )
    return figure.add_axes(box)


def _name_answers(answers: Sequence[tuple[Query, Answer]]) -> dict[str, Answer]:
    """Return the answers by their text in the legend, in the legend's order; for bars, by the label's value."""
    named = {_fill_legend(query, answer): answer for query, answer in answers if answer.has_data}
    return dict(sorted(named.items())) if len({query.expr for query, _ in answers}) == 1 else named


def _fill_legend(query: Query, answer: Answer) -> str:
    if "{{" not in query.legend:
        return answer.labels.get(query.legend, query.legend)
    filled = re.sub(r"\{\{(\w+)\}\}", lambda label: answer.labels.get(label[1], ""), query.legend)
    return re.sub(r"\S*/(\w+)", r"\1", filled).strip()  # keeps the last part of a model's path


def _draw_number(axes: Axes, panel: Panel, named: dict[str, Answer], _: float) -> None:
    """Write one value, or several values side by side, each in the colour of its threshold."""
    axes.set_axis_off()
    axes.text(0, 0.80, panel.title, fontsize=11.5, color="#444444", va="center", parse_math=False)
    for place, (name, answer) in enumerate(named.items()):
        value = answer.points[-1][1]
        x = place / len(named)
        colour = _choose_verdict_colour(value, panel)
        size = min(25.0, POINTS_A_COLUMN * panel.width)
        axes.text(x, 0.45, _format_value(value, panel), fontsize=size, weight="bold", va="center", color=colour)
        if len(named) > 1:
            axes.text(x, 0.14, name, fontsize=10, va="center", color="#666666")


def _draw_absence(axes: Axes, panel: Panel) -> None:
    """Write that a panel has no data. The check does not allow it."""
    _set_title(axes, panel)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#F6F6F6")
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color="#888888", fontsize=11)


def _draw_lines(axes: Axes, panel: Panel, named: dict[str, Answer], started: float) -> None:
    for place, (name, answer) in enumerate(named.items()):
        xs, ys = _insert_gaps(answer, started)
        axes.plot(xs, ys, label=name, linewidth=1.8, color=_choose_colour(name, place, panel))
    _finish_axes(axes, panel, named)


def _draw_stack(axes: Axes, panel: Panel, named: dict[str, Answer], started: float) -> None:
    times = sorted({time for answer in named.values() for time, _ in answer.points})
    columns = [dict(answer.points) for answer in named.values()]
    heights = [[_replace_infinite(column.get(time, 0.0)) for time in times] for column in columns]
    colours = [_choose_colour(name, place, panel) for place, name in enumerate(named)]
    xs = [time - started for time in times]
    axes.stackplot(xs, *heights, labels=list(named), colors=colours, alpha=0.8, linewidth=0)
    _finish_axes(axes, panel, named)


def _draw_bars(axes: Axes, panel: Panel, named: dict[str, Answer], _: float) -> None:
    ordered = dict(sorted(named.items()))
    values = [answer.points[-1][1] for answer in ordered.values()]
    drawn = axes.bar(list(ordered), values, color=COLOURS[0], alpha=0.85, width=0.7)
    axes.bar_label(drawn, [_format_value(value, panel) for value in values], fontsize=9, padding=2)
    _finish_axes(axes, panel, (), is_over_time=False)
    axes.set_ylim(top=1.15 * max(values))


def _draw_heatmap(axes: Axes, panel: Panel, named: dict[str, Answer], started: float) -> None:
    """Draw the number of values in each bucket: the differences of the cumulative counts."""
    edges = sorted(((float(answer.labels["le"]), answer) for answer in named.values()), key=lambda edge: edge[0])
    times = sorted({time for _, answer in edges for time, _ in answer.points})
    below = [0.0] * len(times)
    rows = []
    for _, answer in edges:
        points = dict(answer.points)
        now = [_replace_infinite(points.get(time, 0.0)) for time in times]
        rows.append([max(0.0, upper - lower) for upper, lower in zip(now, below, strict=True)])
        below = now
    names = [f"{edge:.2g}" for edge, _ in edges]
    mesh = axes.pcolormesh([time - started for time in times], range(len(rows)), rows, cmap="Blues", shading="nearest")
    axes.set_yticks(range(0, len(rows), 2), [f"≤ {name}" for name in names[::2]])
    num_below = sum(edge <= 0 for edge, _ in edges)
    if num_below:
        axes.axhline(num_below - 0.5, color="#222222", linewidth=1, linestyle="--")  # the value 0
    axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=30).ax.tick_params(labelsize=8.5)
    _set_title(axes, panel)
    axes.tick_params(labelsize=8.5)


_DRAW_FUNCTIONS: dict[Kind, Callable[[Axes, Panel, dict[str, Answer], float], None]] = {
    Kind.NUMBER: _draw_number,
    Kind.LINES: _draw_lines,
    Kind.STACK: _draw_stack,
    Kind.BARS: _draw_bars,
    Kind.HEATMAP: _draw_heatmap,
}


def _finish_axes(axes: Axes, panel: Panel, names: Collection[str], *, is_over_time: bool = True) -> None:
    """Set title, axes, unit and legend. The legend is below the panel, as in Grafana."""
    _set_title(axes, panel)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _format_value(value, panel, is_tick=True)))
    if panel.minimum is not None:
        axes.set_ylim(bottom=panel.minimum)
    if panel.maximum is not None:
        axes.set_ylim(top=panel.maximum * 1.02)
    if is_over_time:
        axes.margins(x=0.01)
    if names:
        inches = panel.width / WIDTH * FIGURE_INCHES
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.11),
            ncols=max(1, int(inches / (LEGEND_MARK_INCHES + LETTER_INCHES * max(map(len, names))))),
            frameon=False,
            fontsize=8.5,
            columnspacing=1.0,
        )


def _set_title(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize=11.5, weight="bold", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)


def _insert_gaps(answer: Answer, started: float) -> tuple[list[float], list[float]]:
    """Return times and values, with NaN (drawn as a gap) where a step has no point."""
    xs: list[float] = []
    ys: list[float] = []
    gaps = [later[0] - earlier[0] for earlier, later in zip(answer.points, answer.points[1:], strict=False)]
    step = min(gaps, default=0.0)
    for time, value in answer.points:
        if xs and time - started - xs[-1] > 1.5 * step:
            xs.append(xs[-1] + step)
            ys.append(math.nan)
        xs.append(time - started)
        ys.append(value if math.isfinite(value) else math.nan)
    return xs, ys


def _replace_infinite(value: float) -> float:
    """Return 0 for NaN and infinity."""
    return value if math.isfinite(value) else 0.0


def _choose_colour(name: str, place: int, panel: Panel) -> str:
    chosen = panel.colours.get(name)
    return NAMED.get(chosen, chosen) if chosen else MANY[place % len(MANY)]


def _choose_verdict_colour(value: float, panel: Panel) -> str:
    """Return the colour of the highest threshold that a value has reached."""
    reached = [colour for place, (least, colour) in enumerate(panel.steps) if place == 0 or value >= least]
    return NAMED.get(reached[-1], reached[-1]) if reached else "#222222"


def _format_value(value: float, panel: Panel, *, is_tick: bool = False) -> str:
    """Return a value in a panel's unit, approximately as Grafana shows it."""
    if value in panel.words:
        return panel.words[int(value)]
    if panel.unit == "percentunit":
        return f"{100 * value:.{0 if is_tick or panel.decimals is None else panel.decimals}f} %"
    if panel.unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    decimals = panel.decimals
    if is_tick or decimals is None:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    else:
        text = f"{value:,.{decimals}f}"
    if panel.unit == "s":
        return f"{text} s"
    suffix = panel.unit.removeprefix("suffix:") if panel.unit.startswith("suffix:") and not is_tick else ""
    return text + suffix
