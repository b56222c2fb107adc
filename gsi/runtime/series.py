"""Declarations of metrics: one source for ``/metrics`` and for ``docs/metrics.md``.

A module makes a ``Series`` and declares its metrics with it. ``scripts/generate.py`` writes the document's tables from
these declarations; a metric's help text is its meaning in the table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from prometheus_client import Counter, Gauge, Histogram

Values = Sequence[str] | str  # all values that a label can have, or words that say what bounds their number
Labels = Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A series. ``kind``: counter, gauge, histogram, or info (a gauge that is always 1 and informs by its labels)."""

    name: str
    kind: str
    meaning: str
    unit: str
    labels: Labels

    @property
    def combinations(self) -> Iterator[dict[str, str]]:
        """Yield every combination of the labels' values; none if the values of a label cannot be listed."""
        if all(not isinstance(values, str) for values in self.labels.values()):
            for combination in product(*self.labels.values()):
                yield dict(zip(self.labels, combination, strict=True))


class Series:
    """The series that a module declares, in order.

    If the values of all labels can be listed, every combination is served from the start, as 0. A dashboard then shows
    0 accepted steps instead of "no data". ``is_sparse`` turns that off for series with many combinations that never
    occur.
    """

    def __init__(self) -> None:
        self.declarations: list[Declaration] = []

    def counter(
        self, name: str, meaning: str, unit: str, labels: Labels | None = None, *, is_sparse: bool = False
    ) -> Counter:
        declared = self.declare(name, "counter", meaning, unit, labels)
        counter = Counter(name, meaning, list(declared.labels))
        _start([] if is_sparse else declared.combinations, counter)
        return counter

    def gauge(
        self, name: str, meaning: str, unit: str, labels: Labels | None = None, *, is_sparse: bool = False
    ) -> Gauge:
        declared = self.declare(name, "gauge", meaning, unit, labels)
        gauge = Gauge(name, meaning, list(declared.labels))
        _start([] if is_sparse else declared.combinations, gauge)
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
        _start([] if is_sparse else declared.combinations, histogram)
        return histogram

    def info(self, name: str, meaning: str, labels: Labels) -> "Info":
        declared = self.declare(name, "info", meaning, "", labels)
        return Info(Gauge(name, meaning, list(declared.labels)))

    def declare(self, name: str, kind: str, meaning: str, unit: str, labels: Labels | None = None) -> Declaration:
        """Declare a series whose values one of our collectors makes at each scrape."""
        declared = Declaration(name, kind, meaning, unit, labels or {})
        self.declarations.append(declared)
        return declared


@dataclass(frozen=True, slots=True)
class Info:
    """A gauge that informs by its labels.

    The client library's own class serves a series without labels until the first labels are set.
    """

    gauge: Gauge

    def tell(self, **labels: str) -> None:
        """Serve these labels in place of the previous labels."""
        self.gauge.clear()
        self.gauge.labels(**labels).set(1)


def _start(combinations: Iterable[Mapping[str, str]], metric: Counter | Gauge | Histogram) -> None:
    """Make a metric's children, so that they are served before the first event."""
    for combination in combinations:
        if combination:
            metric.labels(**combination)
