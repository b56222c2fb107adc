"""The report of an evaluation, as Markdown to read and as JSON to compute with."""

import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from pydantic_core import to_json as to_json_bytes

from gsi.evaluation import figures
from gsi.evaluation.figures import REFERENCE, Estimate, Row
from gsi.evaluation.records import Evaluation, RecordedJob, RecordedModel

NONE = "-"  # there is no such figure for this row
SHOWN_CASES = 20  # disagreements, failures: the rest is in the JSON
SHOWN_CHARACTERS = 60  # of an answer or an error
SHOWN_PARAMS = ("beta", "acceptance_threshold", "n_target", "temperature", "top_p", "likelihood", "max_tokens")
PREFIXES = ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"), (1, ""))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, its cells as they are printed."""

    title: str
    cells: Sequence[str]
    is_number: bool = True


def to_json(evaluation: Evaluation, jobs: Sequence[RecordedJob], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the whole report as plain JSON values; what is not finite becomes a string, as in the records."""
    report = {
        "evaluation": evaluation,
        "models": figures.models(jobs),
        "rows": [_without_problems(row) for row in rows],
        "comparisons": figures.comparisons(rows),
        "disagreements": figures.disagreements(evaluation, jobs),
        "failures": figures.failures(evaluation, jobs),
    }
    plain: dict[str, Any] = json.loads(to_json_bytes(report, inf_nan_mode="strings"))
    return plain


def _without_problems(row: Row) -> dict[str, Any]:
    """Return a row's figures without the list of all problems, which would hide the rest; the records have it."""
    return {name: value for name, value in asdict(row).items() if name != "accuracy_by_problem"}


def to_markdown(
    evaluation: Evaluation, jobs: Sequence[RecordedJob], rows: Sequence[Row], plots: Sequence[PurePath] = ()
) -> str:
    """Return the report for readers.

    ``plots`` are paths as seen from where the report will lie; a plot's name says what it shows.
    """
    parts = [
        f"# Evaluation on {_plain(evaluation.dataset)}",
        _conditions(evaluation, jobs, rows),
        *_accuracy(evaluation, rows),
        *_comparisons(rows),
        *_cost(rows),
        *_draft_alone(rows),
        *_endings(rows),
        *_failures(evaluation, jobs),
        *_disagreements(evaluation, jobs),
        *_plots(plots),
    ]
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[Column]) -> str:
    """Return a Markdown table, aligned in its source too; a column without any figure is left out."""
    shown = [_padded(column) for column in columns if any(cell != NONE for cell in column.cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in zip(*shown, strict=True))


def _padded(column: Column) -> list[str]:
    """Return a column's lines: its title, the rule that says how it is aligned, its cells."""
    width = max(3, *map(len, [column.title, *column.cells]))
    pad = str.rjust if column.is_number else str.ljust
    rule = "-" * (width - 1) + (":" if column.is_number else "-")
    return [pad(column.title, width), rule, *[pad(cell, width) for cell in column.cells]]


def _conditions(evaluation: Evaluation, jobs: Sequence[RecordedJob], rows: Sequence[Row]) -> str:
    lines = [
        f"- **problems**: {evaluation.problems:,}, each with {_counted(evaluation.seeds, 'seed')}",
        f"- **machine**: {_plain(evaluation.machine)}; {_counted(evaluation.concurrency, 'job')} at once",
        f"- **date**: {evaluation.date}",
    ]
    lines += [f"- **{role}**: {_model(model)}" for role, found in figures.models(jobs).items() for model in found]
    shared = [name for name in SHOWN_PARAMS if rows and _is_shared(name, rows)]
    if shared:
        lines.append(f"- **all methods**: {', '.join(f'{name} {_value(rows[0].params[name])}' for name in shared)}")
    return "\n".join(lines)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_shared(name: str, rows: Sequence[Row]) -> bool:
    value = rows[0].params.get(name)
    return value is not None and all(row.params.get(name) == value for row in rows)


def _model(model: RecordedModel) -> str:
    size = f"{_size(model.num_parameters)} parameters" if model.num_parameters is not None else None
    name = (
        PurePath(model.model).name if PurePath(model.model).is_absolute() else model.model
    )  # a folder of some machine
    return ", ".join(_plain(part) for part in (name, size, model.engine) if part)


def _size(num_parameters: int) -> str:
    """Return a number of parameters as the field writes it: 1.54 B."""
    unit, prefix = _prefix(num_parameters)
    return f"{significant(num_parameters / unit)} {prefix.replace('G', 'B')}" if prefix else str(num_parameters)


def _accuracy(evaluation: Evaluation, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["No job has finished yet."]
    columns = [
        *_names(rows),
        Column("accuracy, %", [percent_with_interval(row.accuracy) for row in rows]),
        Column("strict, %", [percent(row.strict_accuracy.value) for row in rows]),
        Column("SD of seeds", [percent(row.seeds_standard_deviation) for row in rows]),
        Column("accepted, %", [percent_with_interval(row.acceptance_rate) for row in rows]),
        Column("steps", [significant(row.steps_per_problem) for row in rows]),
        Column("s / step", [significant(row.timings.seconds_per_step if row.timings else None) for row in rows]),
        Column("s / problem", [significant(row.timings.seconds_per_problem if row.timings else None) for row in rows]),
    ]
    note = (
        "± is half of a 95 % interval over problems, the seeds of a problem averaged first. *strict* is the accuracy "
        "by the strict grader, *SD of seeds* the standard deviation of the seeds' accuracies, *accepted* the share of "
        f"steps whose draft was kept. Seconds were measured with {_counted(evaluation.concurrency, 'job')} at once."
    )
    if any(row.accuracy.half_width == 0 for row in rows):
        note += " ± 0.0 means that these problems show no difference, not that others would show none."
    return ["## Accuracy and speed", table(columns), _wrapped(note), *_incomplete(evaluation, rows)]


def _incomplete(evaluation: Evaluation, rows: Sequence[Row]) -> list[str]:
    """Say which rows have fewer answers than were asked for, so that nobody compares them unawares."""
    asked = evaluation.problems * evaluation.seeds
    short = [f"{_plain(row.label)}, n = {row.n} ({row.jobs:,} of {asked:,})" for row in rows if row.jobs < asked]
    return [_wrapped(f"Not complete: {'; '.join(short)}.")] if short else []


def _comparisons(rows: Sequence[Row]) -> list[str]:
    compared = figures.comparisons(rows)
    if not compared:
        return []
    columns = [
        Column("method", [_plain(each.label) for each in compared], is_number=False),
        Column("n", [str(each.n) for each in compared]),
        Column("difference, points", [percent_with_interval(each.difference, sign="+") for each in compared]),
        Column("problems", [f"{each.problems:,}" for each in compared]),
    ]
    note = (
        "Accuracy less that of the reference on the same problems; ± is half of the 95 % interval of the paired mean."
    )
    return [f"## Compared with {REFERENCE} at the same n", table(columns), _wrapped(note)]


def _cost(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    counted = [row.tokens_per_problem for row in rows]
    known = [row.flops_per_problem for row in rows if row.flops_per_problem]
    unit, prefix = _prefix(min(known, default=1))
    alone = figures.target_alone(rows)
    columns = [
        *_names(rows),
        Column("draft writes", [whole(each.draft_written) for each in counted]),
        Column("target writes", [whole(each.target_written) for each in counted]),
        Column("target scores", [whole(each.target_scored) for each in counted]),
        Column("PRM rates", [whole(each.prm_rated) for each in counted]),
        Column(f"{prefix}FLOPs", [significant(_quotient(row.flops_per_problem, unit)) for row in rows]),
        Column("FLOPs / target alone", [_relative(row, alone) for row in rows]),
        Column(f"FLOPs / {REFERENCE}", [_relative(row, figures.find(rows, REFERENCE, row.n)) for row in rows]),
    ]
    note = (
        "Tokens and FLOPs a problem, discarded candidates included. FLOPs are 2 N for each token that a model of N "
        "parameters writes, scores or rates (RSD paper, section 3.3); reading prompts is not counted. The last columns "
        f"are ratios of FLOPs: to those of the target by itself, and to those of {REFERENCE} with the same n."
    )
    return ["## Cost", table(columns), _wrapped(note)]


def _relative(row: Row, reference: Row | None) -> str:
    """Return the ratio of a row's FLOPs to the reference's."""
    return significant(_quotient(row.flops_per_problem, reference.flops_per_problem if reference else None))


def _quotient(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _draft_alone(rows: Sequence[Row]) -> list[str]:
    shown = [row for row in rows if row.can_reject]
    if not shown:
        return []
    columns = [
        *_names(shown),
        Column("draft alone, %", [percent(row.share_draft_alone) for row in shown]),
        Column("and correct, %", [percent(row.share_draft_alone_correct) for row in shown]),
    ]
    note = "Share of all answers whose every step is the draft's; and of those that are correct as well."
    return ["## Solved by the draft alone", table(columns), _wrapped(note)]


def _endings(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    reasons = sorted({reason for row in rows for reason in row.stop_reasons})
    states = sorted({state for row in rows for state in row.states} - {"SUCCEEDED"})
    columns = [
        *_names(rows),
        Column("jobs", [f"{row.jobs:,}" for row in rows]),
        *[Column(reason, [f"{row.stop_reasons.get(reason, 0):,}" for row in rows]) for reason in reasons],
        *[Column(state, [f"{row.states.get(state, 0):,}" for row in rows]) for state in states],
    ]
    return ["## How the jobs ended", table(columns)]


def _failures(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[str]:
    found = figures.failures(evaluation, jobs)
    if not found:
        return []
    shown = found[:SHOWN_CASES]
    columns = [
        *_case_names(shown),
        Column("state", [each.state for each in shown], is_number=False),
        Column("error", [_code(each.error) for each in shown], is_number=False),
    ]
    counted = f"{_counted(len(found), 'job')} did not succeed and counted as wrong{_how_many_shown(found)}."
    return ["## Failures", counted, table(columns)]


def _disagreements(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[str]:
    found = figures.disagreements(evaluation, jobs)
    if not jobs:
        return []
    if not found:
        return ["## Disagreements between the graders", "None: both graders say the same of every answer."]
    shown = found[:SHOWN_CASES]
    columns = [
        *_case_names(shown),
        Column("expected", [_code(each.expected) for each in shown], is_number=False),
        Column("answer", [_code(each.answer) for each in shown], is_number=False),
        Column("strict", ["right" if each.is_correct_strict else "wrong" for each in shown], is_number=False),
    ]
    counted = f"The graders disagree on {len(found):,} of {_counted(len(jobs), 'answer')}{_how_many_shown(found)}."
    return ["## Disagreements between the graders", counted, table(columns)]


def _plots(plots: Sequence[PurePath]) -> list[str]:
    images = [f"![{plot.stem.replace('-', ' ').capitalize()}]({plot.as_posix()})" for plot in plots]
    return ["## Plots", *images] if images else []


def _names(rows: Sequence[Row]) -> list[Column]:
    return [
        Column("method", [_plain(row.label) for row in rows], is_number=False),
        Column("n", [str(row.n) for row in rows]),
    ]


def _case_names(cases: Sequence[figures.Disagreement] | Sequence[figures.Failure]) -> list[Column]:
    return [
        Column("method", [_plain(case.label) for case in cases], is_number=False),
        Column("n", [str(case.n) for case in cases]),
        Column("seed", [str(case.seed) for case in cases]),
        Column("problem", [_plain(case.problem) for case in cases], is_number=False),
    ]


def _how_many_shown(found: Sequence[object]) -> str:
    return f"; the first {SHOWN_CASES}" if len(found) > SHOWN_CASES else ""


def percent(share: float | None) -> str:
    """Return a share in percent."""
    return NONE if share is None else f"{100 * share:.1f}"


def percent_with_interval(share: Estimate | None, sign: str = "") -> str:
    """Return a share in percent, with the half width of its interval if it has one; sign "+" shows a plus."""
    if share is None:
        return NONE
    value = f"{100 * share.value:{sign}.1f}"
    return value if share.half_width is None else f"{value} ± {100 * share.half_width:.1f}"


def whole(number: float) -> str:
    """Return a number of tokens."""
    return f"{number:,.0f}"


def significant(value: float | None) -> str:
    """Return a number with three significant digits, but all digits before the point and at most two behind it."""
    if value is None:
        return NONE
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _prefix(value: float) -> tuple[int, str]:
    """Return the largest unit that is not above the value, and its prefix."""
    return next(((unit, prefix) for unit, prefix in PREFIXES if value >= unit), (1, ""))


def _wrapped(note: str) -> str:
    return textwrap.fill(note, 120, break_long_words=False, break_on_hyphens=False)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _plain(text: str) -> str:
    """Return a name as it can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str | None) -> str:
    """Return somebody's text as code that no character in it can break out of; a long one is cut."""
    if text is None:
        return NONE
    flat = _plain(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
    if not flat:
        return "(empty)"
    fence = "`" * (1 + max(map(len, re.findall("`+", flat)), default=0))
    return f"{fence}{flat}{fence}" if "`" not in flat else f"{fence} {flat} {fence}"
