"""The report of a run: as JSON values, and as a section of ``RESULTS.md``."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.field.claim import Claim
from benchmarks.field.claims import CLAIMS, judge_claims
from benchmarks.field.figures import Field, describe_row
from benchmarks.field.methods import LEFT_OUT
from benchmarks.field.passes import FULL_LOAD, Size
from benchmarks.results import describe_conditions
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.method_choice import CostKind, format_cost
from gsi.evaluation.tables import NONE, Column, format_percent, format_percent_with_interval, format_whole, write_table

HEADING = "Methods of the field (`make bench-field`)"


def build_report(field: Field, size: Size, claims: Sequence[Claim] = CLAIMS) -> dict[str, Any]:
    """Return everything that the section shows."""
    return {
        **describe_conditions(),
        "timed_problems": size.timed,
        "answers_a_pass": size.rounds,
        "untimed_problems": size.untimed,
        "jobs_at_full_load": min(FULL_LOAD, size.timed),
        "rows": [describe_row(row, field) for row in field.rows],
        "claims": [
            {
                "method": claim.method,
                "says": claim.says,
                "source": claim.source,
                "verdict": found.verdict.value,
                "why": found.why,
            }
            for claim, found in zip(claims, judge_claims(field, claims), strict=True)
        ],
        "left_out": dict(LEFT_OUT),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    answered = [row for row in report["rows"] if row["accuracy"] is not None]
    failed = [row for row in report["rows"] if row["accuracy"] is None]
    missing = {f"{row['method']}, n = {row['n']}": row["failure"] for row in failed} | report["left_out"]
    parts = [
        f"Every row answers {report['timed_problems']} held-out problems with one job at a time, and with "
        f"{report['jobs_at_full_load']} in the queue, which gives the seconds ({report['answers_a_pass']} of each); "
        f"and {report['untimed_problems']} problems once more, untimed. Accuracy, tokens, FLOPs and acceptance are "
        f"those of all answers. {report['machine']}; {report['date']}. The parameters are the defaults of a job.",
        _show_plot("seconds"),
        _show_plot("flops"),
        _write_rows(answered),
        "*alone* and *full* are seconds an answer with one job at a time, and at full load (the time in which jobs "
        "ran, over the answers). *scored* are the draft's tokens that the target scored, *rated* those that the PRM "
        "read. FLOPs are two per parameter and token; reading the prompt is not counted. A row is on the *front* if "
        "no other row is both cheaper and more accurate, over seconds (s) or FLOPs (F).",
        *[f"Not measured: `{name}`: {reason}." for name, reason in missing.items()],
        "### What the papers claim",
        _write_claims(report["claims"]),
        "A claim is about the models and problems of its paper. *Seen here* means that the 95 % interval shows it; "
        "*not seen here* that the interval does not show it, which is no proof of the contrary.",
    ]
    return "\n\n".join(parts) + "\n"


def _show_plot(over: str) -> str:
    path = f"plots/field-accuracy-over-{over}"
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{path}-dark.svg">'
        f'<img src="{path}-light.svg" alt="Right answers over {over} an answer, with the Pareto front"></picture>'
    )


def _write_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    return write_table(
        [
            Column("method", [row["method"] for row in rows], is_number=False),
            Column("n", [str(row["n"]) for row in rows]),
            Column(
                "right, %",
                [format_percent_with_interval(Estimate(row["accuracy"], *row["accuracy_95"])) for row in rows],
            ),
            Column("accepted, %", [format_percent(row["acceptance"]) for row in rows]),
            Column("alone", [_format_seconds(row["seconds_alone"]) for row in rows]),
            Column("full", [_format_seconds(row["seconds_loaded"]) for row in rows]),
            Column("draft wrote", [format_whole(row["draft_tokens"]) for row in rows]),
            Column("target wrote", [format_whole(row["target_tokens"]) for row in rows]),
            Column("scored", [format_whole(row["target_scored_tokens"]) for row in rows]),
            Column("rated", [format_whole(row["prm_tokens"]) for row in rows]),
            Column(
                "FLOPs",
                [NONE if row["flops"] is None else format_cost(row["flops"], CostKind.FLOPS) for row in rows],
            ),
            Column("front", [_mark_front(row) for row in rows], is_number=False),
        ]
    )


def _format_seconds(seconds: float | None) -> str:
    return NONE if seconds is None else format_cost(seconds, CostKind.SECONDS)


def _mark_front(row: Mapping[str, Any]) -> str:
    marks = (("s", row["is_on_front_over_seconds"]), ("F", row["is_on_front_over_flops"]))
    return " ".join(mark for mark, is_on in marks if is_on)


def _write_claims(claims: Sequence[Mapping[str, Any]]) -> str:
    return write_table(
        [
            Column("claim", [f"`{claim['method']}` {claim['says']}" for claim in claims], is_number=False),
            Column("source", [claim["source"] for claim in claims], is_number=False),
            Column("", [f"**{claim['verdict']}**" for claim in claims], is_number=False),
            Column("figures, or why not", [claim["why"] for claim in claims], is_number=False),
        ]
    )
