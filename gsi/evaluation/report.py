"""The report of an evaluation, as Markdown to read and as JSON to compute with."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from pydantic_core import to_json

from gsi.evaluation import cases, figures
from gsi.evaluation.attempts import compute_attempts
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.figures import Comparison, Row
from gsi.evaluation.records import Evaluation, RecordedJob, RecordedModel
from gsi.evaluation.report_details import write_attempts, write_cost, write_source_rewards, write_strata
from gsi.evaluation.strata import Stratum, compute_strata
from gsi.evaluation.tables import (
    NONE,
    Column,
    escape_cell,
    format_code,
    format_percent,
    format_percent_with_interval,
    format_significant,
    format_size,
    make_name_columns,
    wrap_note,
    write_table,
)

NONE_RIGHT = "Is it the right data set, system message and answer format?"
SHOWN_CASES = 20  # of disagreements and of failures; the JSON has all
SHOWN_PARAMS = ("beta", "acceptance_threshold", "n_target", "temperature", "top_p", "likelihood", "max_tokens")


def build_report_json(evaluation: Evaluation, jobs: Sequence[RecordedJob], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the whole report as JSON values; a number that is not finite is a string, as in the records."""
    report = {
        "evaluation": evaluation,
        "models": cases.list_models(jobs),
        "routers": cases.list_routers(jobs),
        # Without the list of all problems, which would hide the rest; the records have it.
        "rows": [_list_values(row, without="accuracy_by_problem") for row in rows],
        "comparisons": [_list_values(comparison) for comparison in figures.compare_rows(rows)],
        "strata": [_list_values(stratum) for stratum in compute_strata(evaluation, jobs)],
        "attempts": compute_attempts(jobs),
        "source_rewards": [_list_values(each) for each in cases.compare_rewards(evaluation, jobs)],
        "disagreements": cases.list_disagreements(evaluation, jobs),
        "failures": cases.list_failures(evaluation, jobs),
    }
    plain: dict[str, Any] = json.loads(to_json(report, inf_nan_mode="strings"))
    return plain


def _list_values(figure: Row | Comparison | Stratum | cases.SourceRewards, without: str = "") -> dict[str, Any]:
    """Return the values of a dataclass by name; of an estimate the value and the ends of its interval."""
    values = {field.name: getattr(figure, field.name) for field in fields(figure) if field.name != without}
    return {
        name: {"value": value.value, "low": value.low, "high": value.high} if isinstance(value, Estimate) else value
        for name, value in values.items()
    }


def write_report(
    evaluation: Evaluation, jobs: Sequence[RecordedJob], rows: Sequence[Row], plots: Sequence[PurePath] = ()
) -> str:
    """Return the report in Markdown.

    ``plots`` are paths relative to the report's folder; a plot's name says what it shows.
    """
    parts = [
        f"# Evaluation on {escape_cell(evaluation.dataset)}",
        _write_conditions(evaluation, jobs, rows),
        *_write_accuracy(evaluation, rows),
        *_write_first_prompt(jobs),
        *_write_comparisons(rows),
        *write_cost(rows),
        *write_strata(evaluation, jobs),
        *write_attempts(jobs),
        *write_source_rewards(evaluation, jobs),
        *_write_draft_alone(rows),
        *_write_endings(rows),
        *_write_failures(evaluation, jobs),
        *_write_disagreements(evaluation, jobs),
        *_write_plots(plots),
    ]
    return "\n\n".join(parts) + "\n"


def _write_conditions(evaluation: Evaluation, jobs: Sequence[RecordedJob], rows: Sequence[Row]) -> str:
    lines = [
        f"- **problems**: {evaluation.problems:,}, each with {_count(evaluation.seeds, 'seed')}",
        f"- **machine**: {escape_cell(evaluation.machine)}; {_count(evaluation.concurrency, 'job')} at once",
        f"- **date**: {evaluation.date}",
    ]
    if identity := evaluation.identity:
        lines += [
            f"- **system**: {escape_cell(identity.system)}",
            f"- **data set**: {escape_cell(evaluation.dataset)}, SHA-256 of its problems `{identity.dataset}`",
            f"- **system message**: {escape_cell(identity.template)}",
            f"- **code**: {identity.code}; coordinator {identity.coordinator_code or 'unknown'}",
        ]
    lines += [
        f"- **{role}**: {_format_model(model)}" for role, found in cases.list_models(jobs).items() for model in found
    ]
    lines += [f"- **router**: file `{router}`" for router in cases.list_routers(jobs)]
    shared = [name for name in SHOWN_PARAMS if rows and _is_shared(name, rows)]
    if shared:
        lines.append(
            f"- **all methods**: {', '.join(f'{name} {_format_value(rows[0].params[name])}' for name in shared)}"
        )
    return "\n".join(lines)


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_shared(name: str, rows: Sequence[Row]) -> bool:
    value = rows[0].params.get(name)
    return value is not None and all(row.params.get(name) == value for row in rows)


def _format_model(model: RecordedModel) -> str:
    size = f"{format_size(model.num_parameters)} parameters" if model.num_parameters is not None else None
    name = (
        PurePath(model.model).name if PurePath(model.model).is_absolute() else model.model
    )  # a folder of some machine
    files = f"files `{model.checkpoint_fingerprint}`" if model.checkpoint_fingerprint else None
    engine = " ".join(filter(None, (model.engine, model.engine_version)))
    revision = f"revision {model.revision}" if model.revision else None
    parts = (name, revision, size, engine, model.dtype, files)
    return ", ".join(escape_cell(part) for part in parts if part)


def _write_accuracy(evaluation: Evaluation, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["No job has finished yet."]
    columns = [
        *make_name_columns(rows),
        Column("accuracy, %", [_format_accuracy(row) for row in rows]),
        Column("strict, %", [NONE if row.has_failed else format_percent(row.strict_accuracy.value) for row in rows]),
        Column("SD of seeds", [format_percent(row.seeds_standard_deviation) for row in rows]),
        Column("accepted, %", [format_percent_with_interval(row.acceptance_rate) for row in rows]),
        Column("steps", [format_significant(row.steps_per_problem) for row in rows]),
        Column("s / step", [format_significant(row.timings.seconds_per_step) for row in rows]),
        Column("s / problem", [format_significant(row.timings.seconds_per_problem) for row in rows]),
        Column("failed", [_format_failures(row) for row in rows], is_number=False),
    ]
    note = (
        "Brackets are 95 % intervals over problems; the seeds of a problem are averaged first. *strict* is the "
        "accuracy by the strict grader, *SD of seeds* the standard deviation of the seeds' accuracies, *accepted* the "
        "share of steps whose draft was kept. Seconds were measured with "
        f"{_count(evaluation.concurrency, 'job')} at once."
    )
    return ["## Accuracy and speed", write_table(columns), wrap_note(note), *_write_doubts(evaluation, rows)]


def _format_accuracy(row: Row) -> str:
    return "FAILED" if row.has_failed else format_percent_with_interval(row.accuracy)


def _format_failures(row: Row) -> str:
    return f"{row.failures:,} of {row.jobs:,}: {format_code(row.failure_reason)}" if row.failures else NONE


def _write_doubts(evaluation: Evaluation, rows: Sequence[Row]) -> list[str]:
    """Say which rows have fewer answers than were asked for or none that is right, so that nobody trusts them."""
    asked = evaluation.problems * evaluation.seeds
    short = [f"{escape_cell(row.label)}, n = {row.n} ({row.jobs:,} of {asked:,})" for row in rows if row.jobs < asked]
    wrong = [f"{escape_cell(row.label)}, n = {row.n}" for row in rows if row.has_none_right]
    doubts = [f"Not complete: {'; '.join(short)}."] if short else []
    if wrong:
        doubts.append(f"Not one answer is right: {'; '.join(wrong)}. {NONE_RIGHT}")
    return [wrap_note(doubt) for doubt in doubts]


def _write_first_prompt(jobs: Sequence[RecordedJob]) -> list[str]:
    """Show what the models read first: a wrong data set, template or system message shows there."""
    first = next((job for job in jobs if job.rendered_prompt), None)
    if first is None:
        return []
    lines = [f"    {line}" for line in (first.rendered_prompt or "").splitlines()]  # indented: a block of code
    return ["## A prompt as rendered", "\n".join(lines), f"Expected: {format_code(first.expected)}."]


def _write_comparisons(rows: Sequence[Row]) -> list[str]:
    """Compare every pair at the same n, and every row with the target alone; the JSON has all other pairs."""
    alone = figures.find_target_alone(rows)
    names = {(alone.label, alone.n)} if alone else set()
    compared = [
        each
        for each in figures.compare_rows(rows)
        if each.n == each.other_n or {(each.label, each.n), (each.other_label, each.other_n)} & names
    ]
    if not compared:
        return []
    columns = [
        Column("method", [escape_cell(each.label) for each in compared], is_number=False),
        Column("n", [str(each.n) for each in compared]),
        Column("minus", [escape_cell(each.other_label) for each in compared], is_number=False),
        Column("its n", [str(each.other_n) for each in compared]),
        Column("difference, points", [format_percent_with_interval(each.difference, sign="+") for each in compared]),
        Column("problems", [f"{each.problems:,}" for each in compared]),
    ]
    note = (
        "Difference of the accuracies on the same problems, with the 95 % interval of paired differences. report.json "
        "has every other pair. The intervals are not corrected for the number of pairs."
    )
    return ["## Paired differences", write_table(columns), wrap_note(note)]


def _write_draft_alone(rows: Sequence[Row]) -> list[str]:
    shown = [row for row in rows if row.can_reject]
    if not shown:
        return []
    columns = [
        *make_name_columns(shown),
        Column("draft alone, %", [format_percent(row.share_draft_alone) for row in shown]),
        Column("and correct, %", [format_percent(row.share_draft_alone_correct) for row in shown]),
    ]
    note = "Share of all answers whose every step is the draft's, and share of all answers that are also correct."
    return ["## Solved by the draft alone", write_table(columns), wrap_note(note)]


def _write_endings(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    reasons = sorted({reason for row in rows for reason in row.stop_reasons})
    states = sorted({state for row in rows for state in row.states} - {"SUCCEEDED"})
    columns = [
        *make_name_columns(rows),
        Column("jobs", [f"{row.jobs:,}" for row in rows]),
        *[Column(reason, [f"{row.stop_reasons.get(reason, 0):,}" for row in rows]) for reason in reasons],
        *[Column(state, [f"{row.states.get(state, 0):,}" for row in rows]) for state in states],
    ]
    return ["## How the jobs ended", write_table(columns)]


def _write_failures(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[str]:
    found = cases.list_failures(evaluation, jobs)
    if not found:
        return []
    shown = found[:SHOWN_CASES]
    columns = [
        *_make_case_columns(shown),
        Column("state", [each.state for each in shown], is_number=False),
        Column("error", [format_code(each.error) for each in shown], is_number=False),
    ]
    counted = (
        f"{_count(len(found), 'job')} did not succeed{_tell_how_many_shown(found)}. Failed jobs are no answers, "
        "neither right nor wrong; `gsi eval --retry-failed` runs them again."
    )
    return ["## Failures", counted, write_table(columns)]


def _write_disagreements(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[str]:
    found = cases.list_disagreements(evaluation, jobs)
    if not jobs:
        return []
    if not found:
        return ["## Disagreements between the graders", "None: both graders say the same of every answer."]
    shown = found[:SHOWN_CASES]
    columns = [
        *_make_case_columns(shown),
        Column("expected", [format_code(each.expected) for each in shown], is_number=False),
        Column("answer", [format_code(each.answer) for each in shown], is_number=False),
        Column("strict", ["right" if each.is_correct_strict else "wrong" for each in shown], is_number=False),
    ]
    counted = f"The graders disagree on {len(found):,} of {_count(len(jobs), 'answer')}{_tell_how_many_shown(found)}."
    return ["## Disagreements between the graders", counted, write_table(columns)]


def _write_plots(plots: Sequence[PurePath]) -> list[str]:
    images = [f"![{plot.stem.replace('-', ' ').capitalize()}]({plot.as_posix()})" for plot in plots]
    return ["## Plots", *images] if images else []


def _make_case_columns(found: Sequence[cases.Disagreement] | Sequence[cases.Failure]) -> list[Column]:
    return [
        Column("method", [escape_cell(case.label) for case in found], is_number=False),
        Column("n", [str(case.n) for case in found]),
        Column("seed", [str(case.seed) for case in found]),
        Column("problem", [escape_cell(case.problem) for case in found], is_number=False),
    ]


def _tell_how_many_shown(found: Sequence[object]) -> str:
    return f"; the first {SHOWN_CASES}" if len(found) > SHOWN_CASES else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
