"""Metrics as they are declared: what Prometheus is served, and what ``docs/metrics.md`` says of it.

A module makes a ``Series`` and its metrics with it. ``scripts/generate.py`` writes the tables of the document from
these declarations; the help text of a metric is its meaning there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from prometheus_client import Counter, Gauge, Histogram

Values = Sequence[str] | str  # of a label: all that it can have; or in words what bounds them
Labels = Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A series. ``kind``: counter, gauge, histogram, or info (a gauge that is always 1 and tells by its labels)."""

    name: str
    kind: str
    meaning: str
    unit: str
    labels: Labels

    @property
    def listed(self) -> Iterator[dict[str, str]]:
        """Yield every combination of the labels' values; none where those of a label cannot be listed."""
        if all(not isinstance(values, str) for values in self.labels.values()):
            for combination in product(*self.labels.values()):
                yield dict(zip(self.labels, combination, strict=True))


class Series:
    """The series that a module declares, in order.

    Where the values of all labels can be listed, every combination is served from the start, as 0: a dashboard then
    shows no accepted steps as 0 and not as "no data". ``is_sparse`` leaves that out: many of them never occur.
    """

    def __init__(self) -> None:
        self.declarations: list[Declaration] = []

    def counter(
        self, name: str, meaning: str, unit: str, labels: Labels | None = None, *, is_sparse: bool = False
    ) -> Counter:
        declared = self.declare(name, "counter", meaning, unit, labels)
        counter = Counter(name, meaning, list(declared.labels))
        _start([] if is_sparse else declared.listed, counter)
        return counter

    def gauge(
        self, name: str, meaning: str, unit: str, labels: Labels | None = None, *, is_sparse: bool = False
    ) -> Gauge:
        declared = self.declare(name, "gauge", meaning, unit, labels)
        gauge = Gauge(name, meaning, list(declared.labels))
        _start([] if is_sparse else declared.listed, gauge)
        return gauge

    def histogram(
        self,
        name: str,
        meaning: str,
        unit: str,
        labels: Labels | None = None,
        *,
        buckets: Sequence[float],
        is_sparse: bool = False,
    ) -> Histogram:
        declared = self.declare(name, "histogram", meaning, unit, labels)
        histogram = Histogram(name, meaning, list(declared.labels), buckets=buckets)
        _start([] if is_sparse else declared.listed, histogram)
        return histogram

    def info(self, name: str, meaning: str, labels: Labels) -> "Info":
        declared = self.declare(name, "info", meaning, "", labels)
        return Info(Gauge(name, meaning, list(declared.labels)))

    def declare(self, name: str, kind: str, meaning: str, unit: str, labels: Labels | None = None) -> Declaration:
        """Declare a series that a collector of ours makes at each scrape."""
        declared = Declaration(name, kind, meaning, unit, labels or {})
        self.declarations.append(declared)
        return declared


@dataclass(frozen=True, slots=True)
class Info:
    """What is told by labels. The client library's own class serves a series without labels before it is told any."""

    gauge: Gauge

    def tell(self, **labels: str) -> None:
        """Serve these labels, and no more those that were told before."""
        self.gauge.clear()
        self.gauge.labels(**labels).set(1)


def _start(combinations: Iterable[Mapping[str, str]], metric: Counter | Gauge | Histogram) -> None:
    """Make the children of a metric with labels, so that they are served."""
    for combination in combinations:
        if combination:
            metric.labels(**combination)
