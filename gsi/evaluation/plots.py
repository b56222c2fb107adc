"""The plots of the report. No other module of gsi imports matplotlib.

Each ``plot_…`` returns a Figure, or None if the records do not have what it needs; ``write_plots`` writes the files.
Figures are made without pyplot: nothing is global and no display is needed.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from gsi.evaluation.cases import StepRewards, collect_rewards
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.figures import Row
from gsi.evaluation.records import Evaluation, RecordedJob

# Okabe and Ito's colours, which colour-blind readers can tell apart, without yellow, which is too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # eight: the 8th method has colour 1 again, but another marker
DASHES = ("-", "--", ":", "-.")
WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 8.0, 4.2, 150  # 1,200 dots wide: sharp at the width of a README
BINS = 20  # of rewards: 0.05 each
PANELS_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Style:
    """How a line looks."""

    colour: str
    marker: str
    dashes: str = "-"


@dataclass(frozen=True, slots=True)
class Series:
    """Rows that differ in one quantity, x, which ascends."""

    name: str
    n: int
    first_label: str  # in the order of the rows
    points: Sequence[tuple[float, Row]]


def write_plots(evaluation: Evaluation, jobs: Sequence[RecordedJob], rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write a PNG into ``folder`` for each plot that the records allow; return the paths in the report's order."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in rows if not row.has_failed]
    drawn = {
        "accuracy-over-n": plot_accuracy_over_n(evaluation, rows),
        "accuracy-over-flops": plot_accuracy_over_flops(evaluation, rows),
        "acceptance-over-n": plot_acceptance_over_n(evaluation, rows),
        "acceptance-over-beta": plot_acceptance_over_beta(evaluation, rows),
        "accuracy-over-threshold": plot_accuracy_over_threshold(evaluation, rows),
        "rewards-of-steps": plot_rewards_of_steps(evaluation, jobs),
    }
    paths = []
    for name, figure in drawn.items():
        if figure is not None:
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=DOTS_PER_INCH)
    return paths


def plot_accuracy_over_n(evaluation: Evaluation, rows: Sequence[Row]) -> Figure | None:
    """Plot accuracy over n, a line for each method with two n or more (GSI paper, Figure 2)."""
    return _plot_over_n(evaluation, rows, "Accuracy", lambda row: row.accuracy)


def plot_acceptance_over_n(evaluation: Evaluation, rows: Sequence[Row]) -> Figure | None:
    """Plot the share of accepted steps over n (GSI paper, later version, Figure 4)."""
    return _plot_over_n(evaluation, rows, "Accepted steps", lambda row: row.acceptance_rate)


def _plot_over_n(
    evaluation: Evaluation, rows: Sequence[Row], what: str, estimate: Callable[[Row], Estimate | None]
) -> Figure | None:
    lines = {
        label: [(float(row.n), found) for row in of_label if (found := estimate(row)) is not None]
        for label, of_label in _group_by_label(rows).items()
    }
    lines = {label: points for label, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    figure, axes = _make_figure(f"{what} over n: {evaluation.dataset}")
    styles = _assign_styles(evaluation, rows)
    for label, points in lines.items():
        _draw_line(axes, points, label, styles[label])
    _set_log_axis(axes, [x for points in lines.values() for x, _ in points])
    axes.set_xlabel("n (candidates)")
    axes.set_ylabel(f"{what.lower()} (95 % interval)")
    _add_legend(figure)
    return figure


def plot_acceptance_over_beta(evaluation: Evaluation, rows: Sequence[Row]) -> Figure | None:
    """Plot the share of accepted steps of rows that differ in beta alone (GSI paper, later version, Figure 5)."""
    able = [row for row in rows if row.acceptance_rate is not None]
    series = _find_series(able, ("beta",), lambda row: row.params.get("beta"))
    if not series:
        return None
    figure, axes = _make_figure(f"Accepted steps over beta: {evaluation.dataset}")
    for each, style in _pair_with_styles(evaluation, rows, series):
        points = [(x, row.acceptance_rate) for x, row in each.points if row.acceptance_rate is not None]
        _draw_line(axes, points, each.name, style)
    _set_log_axis(axes, [x for each in series for x, _ in each.points])
    axes.set_xlabel("beta")
    axes.set_ylabel("accepted steps (95 % interval)")
    _add_legend(figure)
    return figure


def plot_accuracy_over_flops(evaluation: Evaluation, rows: Sequence[Row]) -> Figure | None:
    """Plot a point for each row, the rows of a method joined in the order of n (RSD paper, Figure 4)."""
    points = {
        label: [(row.flops_per_problem, row) for row in of_label if row.flops_per_problem]
        for label, of_label in _group_by_label(rows).items()
    }
    points = {label: of_label for label, of_label in points.items() if of_label}
    if sum(map(len, points.values())) < 2:
        return None
    figure, axes = _make_figure(f"Accuracy over computation: {evaluation.dataset}")
    ns = sorted({row.n for row in rows})
    styles = _assign_styles(evaluation, rows)
    for label, of_label in points.items():
        style = styles[label]
        xs, ys = [x for x, _ in of_label], [row.accuracy.value for _, row in of_label]
        name = label if len(of_label) > 1 else f"{label}, n = {of_label[0][1].n}"
        axes.plot(xs, ys, color=style.colour, marker=style.marker, markersize=5, linewidth=0.8, label=name)
        sizes = [(5 + 2 * ns.index(row.n)) ** 2 for _, row in of_label]  # areas, in square points
        axes.scatter(xs, ys, sizes, color=style.colour, marker=style.marker, linewidths=0)
    axes.set_xscale("log")
    axes.set_xlabel("FLOPs per problem (the larger the marker, the larger n)")
    axes.set_ylabel("accuracy")
    _add_legend(figure)
    return figure


def plot_accuracy_over_threshold(evaluation: Evaluation, rows: Sequence[Row]) -> Figure | None:
    """Plot accuracy and the draft's own answers over delta (RSD) or u (GSI) (RSD paper, Figure 5)."""
    series = _find_series(rows, ("acceptance_threshold", "weighting"), read_threshold)
    if not series:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 1.5 * HEIGHT_INCHES), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for each, style in _pair_with_styles(evaluation, rows, series):
        _draw_line(above, [(x, row.accuracy) for x, row in each.points], each.name, style)
        _draw_line(below, [(x, Estimate(row.share_draft_alone)) for x, row in each.points], None, style)
    _set_title(above, f"Accuracy over the threshold: {evaluation.dataset}")
    above.set_ylabel("accuracy (95 % interval)")
    _set_title(below, "Answers whose every step is the draft's")
    below.set_ylabel("share of answers")
    below.set_xlabel("threshold: delta (rsd), u (gsi)")
    _set_ticks(below, [x for each in series for x, _ in each.points])
    _add_legend(figure)
    return figure


def read_threshold(row: Row) -> float | None:
    """Return the least reward (RSD, binary) or tilted reward (GSI) that is accepted; None for other methods."""
    if row.method == "gsi":
        return row.params.get("acceptance_threshold")
    weighting = row.params.get("weighting") or {}
    is_binary = row.method == "rsd" and weighting.get("name") == "binary"
    return weighting.get("delta") if is_binary else None


def plot_rewards_of_steps(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> Figure | None:
    """Plot a panel for each method that has accepted and rejected steps, over all its n (RSD paper, Figure 3)."""
    found = {
        label: each for label, each in collect_rewards(evaluation, jobs).items() if each.accepted and each.rejected
    }
    if not found:
        return None
    num_columns = min(PANELS_IN_A_ROW, len(found))
    num_lines = -(-len(found) // num_columns)
    figure = Figure(figsize=(WIDTH_INCHES, 1.0 + 2.6 * num_lines), layout="constrained")
    grid = figure.subplots(num_lines, num_columns, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    numbers = [number for each in found.values() for number in each.accepted + each.rejected + each.replacement]
    limits = min([0.0, *numbers]), max([1.0, *numbers])  # some reward models are not bounded
    for panel, (label, each) in zip(panels, found.items(), strict=False):
        _draw_histograms(panel, each, limits)
        _set_title(panel, label)
        panel.set_xlabel("reward")
    for panel in panels[len(found) :]:
        panel.remove()
    for leftmost in grid[:, 0]:
        leftmost.set_ylabel("share of steps")
    figure.suptitle(f"Rewards of accepted and of rejected steps: {evaluation.dataset}", x=0.01, ha="left")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_histograms(axes: Axes, rewards: StepRewards, limits: tuple[float, float]) -> None:
    """Draw three histograms, each normalised to its own steps, so that their shapes can be compared."""
    kinds = (
        ("accepted", rewards.accepted, COLOURS[2], "-"),
        ("rejected", rewards.rejected, COLOURS[1], "--"),
        ("written by the target instead", rewards.replacement, COLOURS[0], ":"),
    )
    for name, values, colour, dash in kinds:
        if values:
            weights = [1 / len(values)] * len(values)
            axes.hist(values, BINS, range=limits, weights=weights, histtype="stepfilled", color=colour, alpha=0.2)
            axes.hist(
                values, BINS, range=limits, weights=weights, histtype="step", color=colour, linestyle=dash, label=name
            )


def _group_by_label(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.label].append(row)
    return found


def _find_series(rows: Sequence[Row], varied: Sequence[str], value: Callable[[Row], float | None]) -> list[Series]:
    """Return the series of at least two rows whose parameters are equal, except for the ``varied`` ones."""
    groups: dict[str, dict[float, Row]] = defaultdict(dict)
    for row in rows:
        x = value(row)
        if x is not None:
            others = {name: param for name, param in row.params.items() if name not in varied}
            groups[json.dumps(others | {"n": row.n}, sort_keys=True)].setdefault(x, row)
    return [_make_series(group) for group in groups.values() if len(group) > 1]


def _make_series(group: Mapping[float, Row]) -> Series:
    """Return a series, named by what its labels have in common: gsi:beta=4 and gsi:beta=8 are "gsi"."""
    first, *others = group.values()
    options = [row.label.split(":") for row in others]
    common = [option for option in first.label.split(":") if all(option in each for each in options)]
    return Series(f"{':'.join(common)}, n = {first.n}", first.n, first.label, sorted(group.items()))


def _assign_styles(evaluation: Evaluation, rows: Sequence[Row]) -> dict[str, Style]:
    """Give each label its colour and marker: the same in every plot, whichever rows it shows."""
    labels = dict.fromkeys([*evaluation.labels, *[row.label for row in rows]])
    return {
        label: Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]) for place, label in enumerate(labels)
    }


def _pair_with_styles(
    evaluation: Evaluation, rows: Sequence[Row], series: Sequence[Series]
) -> list[tuple[Series, Style]]:
    """Give each series the style of its first label and, by n, its dashes."""
    styles = _assign_styles(evaluation, rows)
    dashes = {n: DASHES[place % len(DASHES)] for place, n in enumerate(sorted({each.n for each in series}))}
    return [(each, replace(styles[each.first_label], dashes=dashes[each.n])) for each in series]


def _make_figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    axes = figure.subplots()
    _set_title(axes, title)
    return figure, axes


def _set_title(axes: Axes, title: str) -> None:
    """Set the title on the left, a light grid, and no frame above and on the right."""
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def _draw_line(axes: Axes, points: Sequence[tuple[float, Estimate]], name: str | None, style: Style) -> None:
    """Draw a line with its 95 % band."""
    xs = [x for x, _ in points]
    values = [estimate.value for _, estimate in points]
    axes.plot(xs, values, color=style.colour, marker=style.marker, linestyle=style.dashes, markersize=5, label=name)
    low = [max(0.0, estimate.low) for _, estimate in points]  # of an interval without ends, all that a share can be
    high = [min(1.0, estimate.high) for _, estimate in points]
    axes.fill_between(xs, low, high, color=style.colour, alpha=0.1, linewidth=0)


def _set_log_axis(axes: Axes, xs: Sequence[float]) -> None:
    """Make the x axis logarithmic, with its ticks at the measured values."""
    axes.set_xscale("log", base=2)
    _set_ticks(axes, xs)
    axes.xaxis.set_minor_locator(NullLocator())


def _set_ticks(axes: Axes, xs: Sequence[float]) -> None:
    """Put a tick at each measured value, and nowhere else."""
    ticks = sorted(set(xs))
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])


def _add_legend(figure: Figure) -> None:
    """Put the legend beside the plot, where it hides no point, and make the plot at least as high as the legend."""
    num_lines = sum(len(axes.get_legend_handles_labels()[1]) for axes in figure.axes)
    figure.set_figheight(max(figure.get_figheight(), 0.5 + 0.2 * num_lines))
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
