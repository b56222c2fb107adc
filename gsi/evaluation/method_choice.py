"""Which of several methods to use: the cheapest that is shown to be hardly less accurate than the best.

Everything is read from the records of one evaluation, so that all methods answered the same problems on the same models
and machine. A choice is a method at one n.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from gsi.algorithm.methods import METHODS
from gsi.errors import InvalidRequestError
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.figures import Row
from gsi.evaluation.front import pareto_front
from gsi.evaluation.non_inferiority import estimate_lost_accuracy, find_best, recommend
from gsi.evaluation.planned import measure
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.tables import (
    Column,
    find_prefix,
    format_code,
    format_percent_with_interval,
    format_significant,
    make_name_columns,
    write_table,
)
from gsi.suggestions import list_names

ALL = "all"


class CostKind(StrEnum):
    """What is called cheap."""

    SECONDS = "seconds"  # an answer, at the concurrency of the evaluation
    FLOPS = "flops"  # an answer


UNITS = {CostKind.SECONDS: "s", CostKind.FLOPS: "FLOPs"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A method at one n that was run, with its cost an answer."""

    row: Row
    cost: float

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def n(self) -> int:
        return self.row.n

    @property
    def accuracy_by_problem(self) -> Mapping[str, float]:
        return self.row.accuracy_by_problem

    @property
    def accuracy(self) -> float:
        return self.row.accuracy.value


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """The choices in order of cost, and what is said of them. ``failed``: rows without an answer, with the reason."""

    choices: Sequence[Choice]
    best: Choice
    recommended: Choice
    front: Sequence[Choice]
    failed: Sequence[Row]
    kind: CostKind
    margin: float


def select_rows(rows: Sequence[Row], labels: Sequence[str], n: int | None) -> list[Row]:
    """Return the rows of these methods (or of ``all``) at n, or at every n. Raises InvalidRequestError for none.

    A method that has no n is kept whatever n is asked for: its rows have n = 1.
    """
    recorded = list(dict.fromkeys(row.label for row in rows))
    asked = recorded if list(labels) == [ALL] else labels
    for label in asked:
        if label not in recorded:
            raise InvalidRequestError(
                f"methods: {label} is not recorded; allowed: {ALL}, or of {list_names(label, recorded)}"
            )
    ns = sorted({row.n for row in rows})
    if n is not None and n not in ns:
        raise InvalidRequestError(f"n: {n} is not recorded; allowed: {', '.join(map(str, ns))}")
    return [row for row in rows if row.label in asked and (n is None or row.n == n or not _has_n(row))]


def _has_n(row: Row) -> bool:
    return row.method in METHODS and "n" in METHODS[row.method].parameters


def choose_method(rows: Sequence[Row], kind: CostKind, margin: float) -> MethodChoice:
    """Compare rows of one evaluation. Raises InvalidRequestError if none answered, or the cost of one is unknown."""
    failed = [row for row in rows if row.has_failed]
    choices = [Choice(row, _find_cost(row, kind)) for row in rows if not row.has_failed]
    choices.sort(key=lambda one: (one.cost, -one.accuracy))
    return MethodChoice(
        choices=choices,
        best=find_best(choices),
        recommended=recommend(choices, margin),
        front=pareto_front(choices, lambda one: one.cost, lambda one: one.accuracy),
        failed=failed,
        kind=kind,
        margin=margin,
    )


def _find_cost(row: Row, kind: CostKind) -> float:
    cost = row.timings.seconds_per_problem if kind is CostKind.SECONDS else row.flops_per_problem
    if cost is None:
        other = next(one for one in CostKind if one is not kind)
        raise InvalidRequestError(
            f"cost: {kind} of {row.label}, n = {row.n} are not on record; allowed: {other}, or without this method"
        )
    return cost


def write_method_choice(found: MethodChoice, dataset: str) -> str:
    """Return what was found, in Markdown."""
    parts = [
        f"# Methods on {dataset}",
        _explain_choice(found),
        *[f"`{row.label}`, n = {row.n}, FAILED: {format_code(row.failure_reason)}." for row in found.failed],
        _write_choices(found),
        f"In order of cost, {UNITS[found.kind]} an answer. *lost*: accuracy against the most accurate, in points, "
        "with its paired 95 % interval. *front*: nothing else is both cheaper and more accurate; the interval may hold "
        "more. Several choices were compared, and the intervals are not corrected for that.",
    ]
    return "\n\n".join(parts) + "\n"


def _write_choices(found: MethodChoice) -> str:
    choices = found.choices
    lost = [format_percent_with_interval(_estimate_lost(one, found)) for one in choices]
    return write_table(
        [
            *make_name_columns(choices),
            Column("accuracy, %", [format_percent_with_interval(one.row.accuracy, digits=0) for one in choices]),
            Column(
                "lost",
                ["(best)" if one is found.best else text for one, text in zip(choices, lost, strict=True)],
            ),
            Column("cost", [format_cost(one.cost, found.kind) for one in choices]),
            Column("front", ["yes" if one in found.front else "" for one in choices], is_number=False),
        ]
    )


def format_cost(cost: float, kind: CostKind) -> str:
    """Return seconds, or FLOPs with the prefix of their size."""
    if kind is CostKind.SECONDS:
        return f"{cost:.3f}"
    unit, prefix = find_prefix(cost)
    return f"{format_significant(cost / unit)} {prefix}".strip()


def _estimate_lost(one: Choice, found: MethodChoice) -> Estimate:
    return estimate_lost_accuracy(one, found.best)


def _explain_choice(found: MethodChoice) -> str:
    chosen, margin = found.recommended, 100 * found.margin
    accuracy = format_percent_with_interval(chosen.row.accuracy)
    cost = f"{format_cost(chosen.cost, found.kind)} {UNITS[found.kind]}"
    said = f"**Recommended: `{chosen.label}`, n = {chosen.n}**, accuracy {accuracy} %, {cost} an answer: "
    if chosen is found.best:
        return f"{said}the most accurate. No cheaper method is shown to lose at most {margin:g} points against it."
    lost = _estimate_lost(chosen, found)
    return (
        f"{said}the cheapest that is shown to lose at most {margin:g} points against the most accurate, "
        f"`{found.best.label}`, n = {found.best.n} (non-inferiority: the paired 95 % interval of its loss "
        f"ends at {100 * lost.high:.1f})."
    )


def build_method_choice_json(found: MethodChoice, dataset: str, jobs: Sequence[RecordedJob] = ()) -> dict[str, Any]:
    """Return what was found as JSON values, with what ``jobs`` tell ``gsi plan``."""
    return {
        "dataset": dataset,
        "cost": found.kind.value,
        "margin": found.margin,
        "recommended": _build_choice(found.recommended, found, jobs),
        "best": _build_choice(found.best, found, jobs),
        "choices": [_build_choice(one, found, jobs) for one in found.choices],
        "failed": [{"method": row.label, "n": row.n, "reason": row.failure_reason} for row in found.failed],
    }


def _build_choice(one: Choice, found: MethodChoice, jobs: Sequence[RecordedJob]) -> dict[str, Any]:
    lost, accepted, tokens = _estimate_lost(one, found), one.row.acceptance_rate, one.row.tokens_per_problem
    return {
        "method": one.label,
        "n": one.n,
        "accuracy": one.accuracy,
        "accuracy_95": [one.row.accuracy.low, one.row.accuracy.high],
        "lost": lost.value,
        "lost_95": [lost.low, lost.high],
        "cost": one.cost,
        "acceptance": None if accepted is None else accepted.value,
        "is_on_front": one in found.front,
        "tokens": {"draft": tokens.draft_written, "target": tokens.target_written},
        "plan": asdict(measure(one.row, jobs)),
    }
