"""Accuracy over cost with the Pareto front, for light and for dark pages."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from benchmarks.field.figures import Field, FieldRow, accuracy_of

INK = {"light": "#1f2328", "dark": "#e6edf3"}
FRONT = {"light": "#1a7f37", "dark": "#3fb950"}
BEHIND = {"light": "#8c959f", "dark": "#6e7681"}
WIDTH_INCHES, HEIGHT_INCHES = 9.0, 4.4


def write_plots(field: Field, folder: Path) -> list[Path]:
    """Write both plots in both forms, as ``field-accuracy-over-seconds-light.svg`` and so on; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "seconds": (field.front_over_seconds, _seconds, "seconds an answer, one job at a time"),
        "flops": (field.front_over_flops, _flops, "FLOPs an answer"),
    }
    paths = []
    with mpl.rc_context():
        mpl.rcParams |= {"svg.hashsalt": "gsi", "svg.fonttype": "path"}  # the same bytes each time, in the same letters
        for name, (front, cost, title) in drawn.items():
            for mode in INK:
                paths.append(folder / f"field-accuracy-over-{name}-{mode}.svg")
                figure = plot_front(field.answered, front, cost, title, mode)
                figure.savefig(paths[-1], transparent=True, metadata={"Date": None})
    return paths


def plot_front(
    rows: Sequence[FieldRow],
    front: Sequence[FieldRow],
    cost: Callable[[FieldRow], float | None],
    title: str,
    mode: str,
) -> Figure:
    """Plot accuracy over cost: the front with names and 95 % intervals, what lies behind it as grey points."""
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    axes = figure.subplots()
    behind = [(x, accuracy_of(row)) for row in rows if row not in front and (x := cost(row)) is not None]
    axes.scatter([x for x, _ in behind], [y for _, y in behind], s=18, color=BEHIND[mode], linewidths=0)
    points = [(x, row) for row in front if (x := cost(row)) is not None]
    xs, ys = [x for x, _ in points], [accuracy_of(row) for _, row in points]
    below = [max(0.0, accuracy_of(row) - row.row.accuracy.low) for _, row in points]
    above = [max(0.0, row.row.accuracy.high - accuracy_of(row)) for _, row in points]
    axes.errorbar(xs, ys, yerr=(below, above), color=FRONT[mode], marker="o", markersize=6, elinewidth=0.8)
    _name_points(figure, axes, points, mode)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x < 1000 else EngFormatter()(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title("Right answers (95 % interval), and what nothing else beats", loc="left", color=INK[mode])
    axes.set_xlabel(title, color=INK[mode])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.tick_params(which="both", colors=INK[mode])
    axes.grid(color=BEHIND[mode], alpha=0.3, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _name_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, FieldRow]], mode: str) -> None:
    """Number the points of the front, and name them beside the plot: neighbours lie too close together for names."""
    for number, (x, row) in enumerate(points, start=1):
        offset = (-10, 5) if number % 2 else (5, -12)
        axes.annotate(
            str(number), (x, accuracy_of(row)), offset, textcoords="offset points", color=INK[mode], fontsize=9
        )
    labels = [f"{number}  {row.name}" for number, (_, row) in enumerate(points, start=1)]
    names = [Line2D([], [], linestyle="none", label=label) for label in labels]
    figure.legend(
        handles=names, loc="outside right center", frameon=False, labelcolor=INK[mode], handlelength=0, fontsize=9
    )


def _seconds(row: FieldRow) -> float | None:
    return None if row.seconds_alone is None else row.seconds_alone.value


def _flops(row: FieldRow) -> float | None:
    return row.row.flops_per_problem
