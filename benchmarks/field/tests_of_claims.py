"""Tests of a claim on the figures. "Seen here" is what an interval shows; one that decides nothing shows nothing.

Rows are compared problem by problem. Ratios are geometric means over problems, with a t-interval of the logarithms.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.field.figures import Field, FieldRow, Key, name_row
from gsi.evaluation.estimates import Estimate, estimate_mean
from gsi.evaluation.figures import compare_accuracies


class Verdict(StrEnum):
    """What the figures say of a claim."""

    SEEN = "seen here"
    NOT_SEEN = "not seen here"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with the figures or the reason."""

    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class ClaimTest:
    """The rows that a test reads, and what it says of them, in that order."""

    keys: tuple[Key, ...]
    judge: Callable[..., Finding]

    def run(self, field: Field) -> Finding:
        """Judge the claim; without the answers of a row nothing can be said."""
        rows = [field.find(key) for key in self.keys]
        for key, row in zip(self.keys, rows, strict=True):
            if row is None:
                return Finding(Verdict.NOT_TESTABLE, f"{name_row(key)} was not run")
            if row.row.has_failed:
                return Finding(Verdict.NOT_TESTABLE, f"{name_row(key)} gave no answer")
        return self.judge(*rows)


def more_accurate(better: Key, worse: Key) -> ClaimTest:
    """The first has more right answers than the second."""

    def judge(first: FieldRow, second: FieldRow) -> Finding:
        difference = compare_accuracies(first.row, second.row)
        return Finding(_seen(difference.low > 0), _say_points(first, second, difference))

    return ClaimTest((better, worse), judge)


def hardly_less_accurate(one: Key, other: Key, margin: float) -> ClaimTest:
    """The first loses at most ``margin``, a share, against the second."""

    def judge(first: FieldRow, second: FieldRow) -> Finding:
        difference = compare_accuracies(first.row, second.row)
        said = f"{_say_points(first, second, difference)}; margin {100 * margin:g}"
        return Finding(_seen(difference.low >= -margin), said)

    return ClaimTest((one, other), judge)


def faster(quick: Key, slow: Key, at_least: float = 1.0) -> ClaimTest:
    """An answer of the first takes at most 1 / ``at_least`` of the second's seconds, one job at a time."""

    def judge(first: FieldRow, second: FieldRow) -> Finding:
        ratio = estimate_ratio_of(second.seconds_by_problem, first.seconds_by_problem)
        return _judge_ratio(first, second, ratio, at_least, "times as fast as")

    return ClaimTest((quick, slow), judge)


def fewer_flops(cheap: Key, dear: Key, at_least: float = 1.0) -> ClaimTest:
    """An answer of the first takes at most 1 / ``at_least`` of the second's FLOPs."""

    def judge(first: FieldRow, second: FieldRow) -> Finding:
        ratio = estimate_ratio_of(second.flops_by_problem, first.flops_by_problem)
        return _judge_ratio(first, second, ratio, at_least, "times fewer FLOPs than")

    return ClaimTest((cheap, dear), judge)


def accepts(one: Key, at_least: float) -> ClaimTest:
    """At least this share of the steps is accepted."""

    def judge(row: FieldRow) -> Finding:
        share = row.row.acceptance_rate
        if share is None:
            return Finding(Verdict.NOT_TESTABLE, f"{row.name} rejects nothing")
        said = f"{row.name} accepts {100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
        return Finding(_seen(share.low >= at_least), said)

    return ClaimTest((one,), judge)


def all_of(*tests: ClaimTest) -> ClaimTest:
    """Return the test of a claim of several parts, all of which must be seen."""
    keys = tuple(key for test in tests for key in test.keys)

    def judge(*rows: FieldRow) -> Finding:
        left, findings = list(rows), []
        for test in tests:
            findings.append(test.judge(*left[: len(test.keys)]))
            del left[: len(test.keys)]
        verdicts = {finding.verdict for finding in findings}
        order = (Verdict.NOT_TESTABLE, Verdict.NOT_SEEN, Verdict.SEEN)
        worst = next(verdict for verdict in order if verdict in verdicts)
        return Finding(worst, "; ".join(finding.why for finding in findings))

    return ClaimTest(keys, judge)


def estimate_ratio_of(over: Mapping[str, float], under: Mapping[str, float]) -> Estimate | None:
    """Return the geometric mean of the ratios over the problems of both; None without any."""
    common = sorted(over.keys() & under.keys())
    logs = [math.log(over[problem] / under[problem]) for problem in common if over[problem] > 0 and under[problem] > 0]
    if not logs:
        return None
    mean = estimate_mean(logs)
    return Estimate(math.exp(mean.value), math.exp(mean.low), math.exp(mean.high))


def _judge_ratio(first: FieldRow, second: FieldRow, ratio: Estimate | None, at_least: float, said: str) -> Finding:
    if ratio is None:
        return Finding(Verdict.NOT_TESTABLE, f"{first.name} and {second.name} have no figure in common")
    figures = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    is_seen = ratio.low > 1 and ratio.low >= at_least
    return Finding(_seen(is_seen), f"{first.name}: {figures} {said} {second.name}")


def _say_points(first: FieldRow, second: FieldRow, difference: Estimate) -> str:
    points = f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"{first.name}: {points} points against {second.name}"


def _seen(is_seen: bool) -> Verdict:
    return Verdict.SEEN if is_seen else Verdict.NOT_SEEN
