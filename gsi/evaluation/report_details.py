"""Sections of the report beside accuracy: cost, strata, several answers together, the two models' rewards."""

from collections.abc import Sequence

from gsi.evaluation.attempts import SCORES, compute_attempts
from gsi.evaluation.cases import compare_rewards
from gsi.evaluation.figures import Row, find_baseline
from gsi.evaluation.records import Evaluation, RecordedJob
from gsi.evaluation.strata import FIELDS, Stratum, compute_strata
from gsi.evaluation.tables import (
    NONE,
    Column,
    escape_cell,
    find_prefix,
    format_percent,
    format_significant,
    format_whole,
    make_name_columns,
    wrap_note,
    write_table,
)


def write_cost(rows: Sequence[Row]) -> list[str]:
    """Write tokens and FLOPs, all against one baseline, which the column's title names."""
    if not rows:
        return []
    counted = [row.tokens_per_problem for row in rows]
    known = [row.flops_per_problem for row in rows if row.flops_per_problem]
    unit, prefix = find_prefix(min(known, default=1))
    baseline = find_baseline(rows)
    flops, source = baseline or (None, "")
    columns = [
        *make_name_columns(rows),
        Column("draft writes", [format_whole(each.draft_written) for each in counted]),
        Column("target writes", [format_whole(each.target_written) for each in counted]),
        Column("target scores", [format_whole(each.target_scored) for each in counted]),
        Column("PRM rates", [format_whole(each.prm_rated) for each in counted]),
        Column(f"{prefix}FLOPs", [format_significant(_divide(row.flops_per_problem, unit)) for row in rows]),
        Column("FLOPs / plain target", [format_significant(_divide(row.flops_per_problem, flops)) for row in rows]),
        Column(
            f"prompt, {prefix}FLOPs", [format_significant(_divide(row.prompt_flops_per_problem, unit)) for row in rows]
        ),
    ]
    note = (
        "Tokens and FLOPs per problem, discarded candidates included. FLOPs are 2 N for each token that a model of N "
        "parameters writes, scores, judges or rates (RSD paper, section 3.3); they leave out reading, of which "
        "*prompt* gives the least: each prompt once by each model that worked, as with a prefix cache."
    )
    if baseline:
        note += f" The plain target is one answer of the target, without a PRM: the target's tokens of {source}."
    return ["## Cost", write_table(columns), wrap_note(note)]


def write_strata(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[str]:
    """Write a table for each field that the data set names: a line for each value, a column for each row."""
    strata = compute_strata(evaluation, jobs)
    tables = [_write_strata_of_field(field, [each for each in strata if each.field == field]) for field in FIELDS]
    return [part for parts in tables for part in parts]


def _write_strata_of_field(field: str, strata: Sequence[Stratum]) -> list[str]:
    if not strata:
        return []
    values = list(dict.fromkeys(each.value for each in strata))
    rows = list(dict.fromkeys((each.label, each.n) for each in strata))
    found = {(each.value, each.label, each.n): each for each in strata}
    problems = {value: max(each.problems for each in strata if each.value == value) for value in values}
    columns = [
        Column(field, [escape_cell(value) for value in values], is_number=False),
        Column("problems", [f"{problems[value]:,}" for value in values]),
    ]
    for label, n in rows:
        cells = [found.get((value, label, n)) for value in values]
        shown = [NONE if cell is None else format_percent(cell.accuracy.value) for cell in cells]
        columns.append(Column(f"{escape_cell(label)}, {n}", shown))
    return [f"## Accuracy by {field}, %", write_table(columns), "report.json has the intervals."]


def write_attempts(jobs: Sequence[RecordedJob]) -> list[str]:
    """Write what k answers are worth together, where a problem has more than one."""
    every = compute_attempts(jobs)
    several = {(each.label, each.n) for each in every if each.k > 1}
    found = [each for each in every if (each.label, each.n) in several]
    if not found:
        return []
    columns = [
        *make_name_columns(found),
        Column("k", [str(each.k) for each in found]),
        Column("pass@k, %", [format_percent(each.pass_at_k) for each in found]),
        *[
            Column(f"best of k by {score}, %", [format_percent(each.best_of_k.get(score)) for each in found])
            for score in SCORES
        ],
        Column("problems", [f"{each.problems:,}" for each in found]),
    ]
    note = (
        "Of k answers to a problem (its seeds; all responses of best-of-n and majority vote, which are graded by "
        "notation alone): one is right, or the one with the highest score is, by the PRM's rewards of its steps. "
        "Means over every choice of k answers."
    )
    return ["## Several answers to a problem", write_table(columns), wrap_note(note)]


def write_source_rewards(evaluation: Evaluation, jobs: Sequence[RecordedJob]) -> list[str]:
    """Write the draft's rewards against the target's, where both wrote candidates for a step."""
    found = compare_rewards(evaluation, jobs)
    if not found:
        return []
    columns = [
        *make_name_columns(found),
        Column("steps", [f"{each.steps:,}" for each in found]),
        Column("draft", [f"{each.draft:.3f}" for each in found]),
        Column("target", [f"{each.target:.3f}" for each in found]),
        Column("target - draft", [str(each.difference) for each in found]),
    ]
    note = (
        "Mean rewards of all candidates at steps that were resampled, with the 95 % interval of the difference over "
        "problems. The test has rejected the draft's candidate there, so over all steps the draft is better than this."
    )
    return ["## Draft's against target's rewards", write_table(columns), wrap_note(note)]


def _divide(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
