"""The plots: what each shows, when it is left out, and that a file with a picture in it is written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from gsi.evaluation import figures, plots
from gsi.evaluation.records import RecordedJob
from tests.evaluation.made_records import accepted_step, evaluation, job, resampled_step

LABELS = ("soft-best-of-n:target", "rsd:binary=0.7", "gsi")
CONDITIONS = evaluation(LABELS)


def jobs_of(label: str, n: int, num_accepted: int = 1, **fields: Any) -> list[RecordedJob]:
    """Return the answers to two problems, one of them right, with so many of two steps accepted."""
    steps = [accepted_step()] * num_accepted + [resampled_step()] * (2 - num_accepted)
    return [
        job("p0", label=label, n=n, steps=steps, **fields),
        job("p1", label=label, n=n, steps=steps, is_correct=False, **fields),
    ]


def at_several_n() -> list[RecordedJob]:
    return [made for label in LABELS for n in (1, 4, 16) for made in jobs_of(label, n)]


def with_binary(delta: float) -> dict[str, Any]:
    return {"weighting": {"name": "binary", "delta": delta}}


def at_several_thresholds() -> list[RecordedJob]:
    """Return RSD at three thresholds, with fewer and fewer accepted steps, and GSI at two."""
    made = [
        jobs_of(f"rsd:binary={delta}", 4, num_accepted, params=with_binary(delta))
        for delta, num_accepted in ((0.9, 0), (0.5, 2), (0.7, 1))
    ]
    made += [jobs_of(f"gsi:u={u}", 4, params={"acceptance_threshold": u}) for u in (0.4, 0.6)]
    return [one for row in made for one in row]


def only_axes(figure: Figure | None) -> Axes:
    assert figure is not None
    (axes,) = figure.axes
    return axes


def points(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Return what each line shows: (x, y) by the name in the legend."""
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in numpy.asarray(line.get_xydata())]
        for line in axes.get_lines()
    }


def names_in_legend(figure: Figure | None) -> list[str]:
    assert figure is not None
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_accuracy_over_n() -> None:
    """A line for each method in the order of the labels, a tick at each n, a band around each line."""
    rows = figures.compute_rows(CONDITIONS, at_several_n())
    figure = plots.plot_accuracy_over_n(CONDITIONS, rows)
    axes = only_axes(figure)
    assert axes.get_title(loc="left") == "Accuracy over n: arithmetic"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("n (candidates)", "accuracy (95 % interval)")
    assert points(axes) == {label: [(1, 0.5), (4, 0.5), (16, 0.5)] for label in LABELS}
    assert names_in_legend(figure) == list(LABELS)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "4", "16"]
    assert len(axes.collections) == len(LABELS)


def test_a_band_is_the_interval() -> None:
    """And never beyond what a share can be."""
    jobs = [job(f"p{i}", n=n, is_correct=i > 0 or n > 1) for i in range(10) for n in (1, 4)]
    rows = figures.compute_rows(CONDITIONS, jobs)
    (band,) = only_axes(plots.plot_accuracy_over_n(CONDITIONS, rows)).collections
    heights = numpy.asarray(band.get_paths()[0].vertices)[:, 1]
    assert heights.min() == pytest.approx(min(row.accuracy.low for row in rows))
    assert heights.max() == 1.0


def test_acceptance_over_n() -> None:
    """Only methods that can reject."""
    jobs = [*jobs_of("gsi", 1, 0), *jobs_of("gsi", 4, 1), *jobs_of(LABELS[0], 1), *jobs_of(LABELS[0], 4)]
    axes = only_axes(plots.plot_acceptance_over_n(CONDITIONS, figures.compute_rows(CONDITIONS, jobs)))
    assert points(axes) == {"gsi": [(1, 0), (4, 0.5)]}
    assert axes.get_ylabel() == "accepted steps (95 % interval)"


def test_acceptance_over_beta() -> None:
    """Rows that differ in beta alone, also where one has its default; a line for each n, beta ascending."""
    jobs = [
        *jobs_of("gsi", 4, 2),
        *jobs_of("gsi:beta=8", 4, 1, params={"beta": 8.0}),
        *jobs_of("gsi:beta=4", 4, 0, params={"beta": 4.0}),
        *jobs_of("gsi:beta=8", 16, 1, params={"beta": 8.0}),
        *jobs_of("gsi:beta=4", 16, 0, params={"beta": 4.0}),
        *jobs_of("gsi:beta=2:u=0.9", 4, 0, params={"beta": 2.0, "acceptance_threshold": 0.9}),
        *jobs_of("soft-best-of-n:target", 4),
    ]
    axes = only_axes(plots.plot_acceptance_over_beta(CONDITIONS, figures.compute_rows(CONDITIONS, jobs)))
    assert points(axes) == {"gsi, n = 4": [(4, 0), (8, 0.5), (20, 1)], "gsi, n = 16": [(4, 0), (8, 0.5)]}
    assert [line.get_linestyle() for line in axes.get_lines()] == ["-", "--"]
    assert axes.get_xlabel() == "beta"


def test_accuracy_over_flops() -> None:
    """A point a row on a logarithmic axis, larger for larger n; a method with one n says it."""
    jobs = [*jobs_of("gsi", 1), *jobs_of("gsi", 4, 0), *jobs_of("rsd:binary=0.7", 4)]
    rows = figures.compute_rows(CONDITIONS, jobs)
    figure = plots.plot_accuracy_over_flops(CONDITIONS, rows)
    axes = only_axes(figure)
    flops = {(row.label, row.n): row.flops_per_problem for row in rows}
    assert axes.get_xscale() == "log"
    assert [x for x, _ in points(axes)["gsi"]] == [flops["gsi", 1], flops["gsi", 4]]
    assert names_in_legend(figure) == ["rsd:binary=0.7, n = 4", "gsi"]
    _, markers_of_gsi = axes.collections
    assert isinstance(markers_of_gsi, PathCollection)
    small, large = markers_of_gsi.get_sizes()
    assert small < large


def test_accuracy_over_the_threshold() -> None:
    """Accuracy above, what the draft wrote alone below; RSD by delta, GSI by u."""
    figure = plots.plot_accuracy_over_threshold(CONDITIONS, figures.compute_rows(CONDITIONS, at_several_thresholds()))
    assert figure is not None
    above, below = figure.axes
    assert points(above) == {
        "rsd, n = 4": [(0.5, 0.5), (0.7, 0.5), (0.9, 0.5)],
        "gsi, n = 4": [(0.4, 0.5), (0.6, 0.5)],
    }
    alone_of_gsi, alone_of_rsd = sorted(points(below).values())
    assert alone_of_rsd == [(0.5, 1), (0.7, 0), (0.9, 0)]
    assert alone_of_gsi == [(0.4, 0), (0.6, 0)]
    assert below.get_xlabel() == "threshold: delta (rsd), u (gsi)"
    assert [text.get_text() for text in below.get_xticklabels()] == ["0.4", "0.5", "0.6", "0.7", "0.9"]


def test_only_a_binary_weighting_has_a_threshold() -> None:
    """Of RSD's other weightings, and of methods that accept everything, there is none to plot."""
    jobs = [
        *jobs_of("gsi", 4, params={"acceptance_threshold": 0.5, "weighting": None}),
        *jobs_of("rsd:binary=0.7", 4, params=with_binary(0.7)),
        *jobs_of("rsd:logistic", 4, params={"weighting": {"name": "logistic", "delta": 0.7}}),
        *jobs_of("soft-best-of-n:target", 4, params={"acceptance_threshold": 0.5}),
    ]
    thresholds = {row.label: plots.read_threshold(row) for row in figures.compute_rows(CONDITIONS, jobs)}
    assert thresholds == {"gsi": 0.5, "rsd:binary=0.7": 0.7, "rsd:logistic": None, "soft-best-of-n:target": None}


def test_rewards_of_steps() -> None:
    """A panel for each method with accepted and rejected steps; every histogram adds up to all of its steps."""
    jobs = [*jobs_of("gsi", 1), *jobs_of("gsi", 4), *jobs_of("rsd:binary=0.7", 4), *jobs_of("soft-best-of-n:target", 4)]
    figure = plots.plot_rewards_of_steps(CONDITIONS, jobs)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["rsd:binary=0.7", "gsi"]
    assert names_in_legend(figure) == ["accepted", "rejected", "written by the target instead"]
    of_rsd = figure.axes[0]
    assert (of_rsd.get_xlabel(), of_rsd.get_ylabel()) == ("reward", "share of steps")
    filled = of_rsd.patches[::2]  # a filled and an outlined one each
    assert [numpy.asarray(shape.get_path().vertices)[:, 1].max() for shape in filled] == [1, 1, 1]  # all in one bin


def test_rewards_beyond_one_are_drawn() -> None:
    """A reward model that is not bounded has a wider axis."""
    steps = [accepted_step(reward=7.5), resampled_step(rejected_reward=-3.0)]
    figure = plots.plot_rewards_of_steps(CONDITIONS, [job(steps=steps)])
    low, high = only_axes(figure).get_xlim()
    assert low <= -3
    assert high >= 7.5


def test_panels_that_are_not_needed_are_not_there() -> None:
    """Four methods take two lines of panels, two panels of which are away."""
    labels = ["gsi", "gsi:beta=4", "gsi:beta=8", "rsd"]
    figure = plots.plot_rewards_of_steps(CONDITIONS, [made for label in labels for made in jobs_of(label, 4)])
    assert figure is not None
    assert len(figure.axes) == 4


def test_a_method_looks_the_same_in_every_plot() -> None:
    """Colour and marker belong to the label, whichever other methods a plot shows."""
    rows = figures.compute_rows(CONDITIONS, at_several_n())
    looks = []
    for figure in (plots.plot_accuracy_over_n(CONDITIONS, rows), plots.plot_acceptance_over_n(CONDITIONS, rows)):
        lines = {line.get_label(): (line.get_color(), line.get_marker()) for line in only_axes(figure).get_lines()}
        looks.append(lines["gsi"])
    assert looks[0] == looks[1]


def test_as_many_methods_as_colours_and_markers() -> None:
    """Fifty-six labels look different from each other."""
    labels = [f"gsi:beta={beta}" for beta in range(1, 57)]
    jobs = [job(label=label, n=n) for label in labels for n in (1, 4)]
    conditions = evaluation(labels)
    axes = only_axes(plots.plot_accuracy_over_n(conditions, figures.compute_rows(conditions, jobs)))
    assert len({(line.get_color(), line.get_marker()) for line in axes.get_lines()}) == 56


def test_a_long_legend_is_not_cut() -> None:
    """The figure is as high as its legend needs."""
    labels = [f"gsi:beta={beta}" for beta in range(1, 57)]
    conditions = evaluation(labels)
    rows = figures.compute_rows(conditions, [job(label=label, n=n) for label in labels for n in (1, 4)])
    figure = plots.plot_accuracy_over_n(conditions, rows)
    assert figure is not None
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().y0 >= 0


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param([], id="nothing"),
        pytest.param(jobs_of("gsi", 4, 2, models={}), id="one row, nothing rejected, models unknown"),
    ],
)
def test_what_the_records_do_not_have_is_not_drawn(jobs: list[RecordedJob], tmp_path: Path) -> None:
    """A line needs two points, a comparison two kinds of steps."""
    assert plots.write_plots(CONDITIONS, jobs, figures.compute_rows(CONDITIONS, jobs), tmp_path / "plots") == []


def test_files_are_written(tmp_path: Path) -> None:
    """Every plot as a PNG of the promised width with more than one colour in it."""
    jobs = [*at_several_n(), *at_several_thresholds()]
    jobs += [*jobs_of("gsi:beta=8", 4, params={"beta": 8.0}), *jobs_of("gsi:beta=4", 4, params={"beta": 4.0})]
    folder = tmp_path / "new" / "plots"
    paths = plots.write_plots(CONDITIONS, jobs, figures.compute_rows(CONDITIONS, jobs), folder)
    assert [path.name for path in paths] == [
        "accuracy-over-n.png",
        "accuracy-over-flops.png",
        "acceptance-over-n.png",
        "acceptance-over-beta.png",
        "accuracy-over-threshold.png",
        "rewards-of-steps.png",
    ]
    for path in paths:
        pixels = imread(path)
        assert path.parent == folder
        assert pixels.shape[1] == plots.WIDTH_INCHES * plots.DOTS_PER_INCH
        assert pixels.std() > 0.01


def test_matplotlib_is_imported_by_plots_alone() -> None:
    """Figures and report work without it, and plots without a display: pyplot is never imported."""
    script = (
        "import json, sys; import gsi.evaluation.report; first = 'matplotlib' in sys.modules;"
        "import gsi.evaluation.plots; print(json.dumps([first, 'matplotlib.pyplot' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(done.stdout) == [False, False]
