"""Draw what the demo measured, for light and for dark pages.

``gsi demo --json | python scripts/draw_gain.py docs/pictures``

Writes ``gain-light.svg`` and ``gain-dark.svg``: the share of right answers and the seconds an answer, way by way.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ACCENT, PLAIN = {"light": "#1a7f37", "dark": "#3fb950"}, {"light": "#8c959f", "dark": "#6e7681"}
INK = {"light": "#1f2328", "dark": "#e6edf3"}
WIDTH_INCHES, HEIGHT_INCHES = 8.4, 2.3


def draw(comparison: Sequence[Mapping[str, Any]], mode: str) -> Figure:
    """Return the figure for a light or a dark page; its background is transparent."""
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [way["name"] for way in comparison]
    _draw_bars(left, names, [100 * way["accuracy"] for way in comparison], "right answers, %", "{:.0f}", mode)
    _draw_bars(right, names, [way["seconds_per_answer"] for way in comparison], "seconds an answer", "{:.2f}", mode)
    left.invert_yaxis()  # the first way stands on top
    return figure


def _draw_bars(axes: Axes, names: Sequence[str], values: Sequence[float], title: str, form: str, mode: str) -> None:
    colours = [ACCENT[mode], *[PLAIN[mode]] * (len(names) - 1)]
    bars = axes.barh(names, values, color=colours, height=0.62)
    axes.bar_label(bars, labels=[form.format(value) for value in values], padding=4, color=INK[mode], fontweight="bold")
    axes.set_title(title, loc="left", color=INK[mode], fontsize=11)
    axes.set_xlim(0, 1.18 * max(values))
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, colors=INK[mode], labelsize=11)
    for spine in axes.spines.values():
        spine.set_visible(False)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams |= {"svg.hashsalt": "gsi", "svg.fonttype": "path"}  # the same bytes each time, in the same letters
    comparison = json.load(sys.stdin)["comparison"]
    for mode in INK:
        draw(comparison, mode).savefig(folder / f"gain-{mode}.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
