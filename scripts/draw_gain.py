"""Draw what the demo measured, for light and for dark pages.

``python scripts/draw_gain.py docs/pictures``

Reads the last sentence of the recording ``demo.svg``, so that the picture, the recording and README.md tell of one run.
Writes ``gain-light.svg`` and ``gain-dark.svg``: right answers, and the time of an answer against GSI's, way by way.
"""

import html
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ACCENT, PLAIN = {"light": "#1a7f37", "dark": "#3fb950"}, {"light": "#8c959f", "dark": "#6e7681"}
INK = {"light": "#1f2328", "dark": "#e6edf3"}
WIDTH_INCHES, HEIGHT_INCHES = 8.4, 2.3


ASKED = re.compile(r"GSI gets (\d+) of (\d+) problems right in [\d.]+ s each")
OTHER = re.compile(r"([\d.]+) times as fast as (.+?) \((\d+) right\)")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to answer. ``time``: of an answer, where GSI's is 1."""

    name: str
    num_right: int
    time: float


def find_sentence(recording: str) -> str:
    """Return the sentence with which the demo ends, from its recording. Raises ValueError if there is none."""
    shown = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", recording)))
    found = re.search(r"GSI gets [^|]*? right\)\.", shown)
    if found is None:
        raise ValueError(
            "the recording has no sentence such as: GSI gets 8 of 8 problems right in 0.76 s each: 2.2 times …"
        )
    return found[0]


def read_ways(sentence: str) -> tuple[int, list[Way]]:
    """Return the number of problems and the ways that a sentence compares."""
    asked = ASKED.match(sentence)
    if asked is None:
        raise ValueError(f"the sentence is of another form: {sentence}")
    others = OTHER.findall(sentence)
    ways = [Way("GSI", int(asked[1]), 1.0)]
    ways += [Way(name, int(right), float(times)) for times, name, right in others]
    return int(asked[2]), ways


def draw(num_problems: int, ways: Sequence[Way], mode: str) -> Figure:
    """Return the figure for a light or a dark page; its background is transparent."""
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [way.name for way in ways]
    _draw_bars(left, names, [way.num_right for way in ways], f"right answers of {num_problems}", "{:.0f}", mode)
    _draw_bars(right, names, [way.time for way in ways], "time of an answer, GSI = 1", "{:.1f}", mode)
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
    compared = read_ways(find_sentence((folder / "demo.svg").read_text(encoding="utf-8")))
    for mode in INK:
        draw(*compared, mode).savefig(folder / f"gain-{mode}.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
