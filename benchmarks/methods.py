"""The methods of both papers against each other on the shipped family, with ``gsi eval``'s code: ``make bench``.

Every job passes through the real system: Redis, a coordinator, three services. A stopped run resumes where it left off.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.results import RESULTS, write_section
from gsi.cli.evaluate import run_with_progress
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.figures import Row, compare_accuracies, find_row
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.session import System
from gsi.evaluation.tables import Column, format_percent_with_interval, write_table

OUT = RESULTS.with_name("out")  # records, which git ignores
PLOTS = RESULTS.with_name("plots")
SHOWN = ("Accuracy and speed", "Cost", "Solved by the draft alone")  # sections of the report

MAIN = Plan(
    dataset="arithmetic",
    methods=("gsi", "gsi-no-rejection", "rsd", "soft-best-of-n:draft", "soft-best-of-n:target"),
    ns=(1, 4, 16),
    seeds=3,
)
# The other methods of the RSD paper's comparison (its Tables 2 and 3), each at a single n.
OTHERS = Plan(
    dataset="arithmetic",
    methods=("draft", "target", "draft:temperature=0", "best-of-n:last", "majority-vote", "best-of-n", "beam-search"),
    ns=(16,),
    seeds=3,
)
# GSI over beta, and both papers' thresholds (RSD Figure 5; newer GSI Figure 5).
SWEEPS = Plan(
    dataset="arithmetic",
    methods=(
        *(f"gsi:beta={beta}" for beta in (2, 5, 8, 20, 80)),
        *(f"gsi:u={u}" for u in (0.0, 0.3, 0.7, 0.9)),
        *(f"rsd:binary={delta}" for delta in (0.3, 0.5, 0.7, 0.9, 0.97)),
        *(f"rsd:{name}" for name in ("constant=0.85", "clip", "sigmoidal", "logistic", "likelihood-ratio", "hybrid")),
    ),
    ns=(4,),
    seeds=1,
)

# GSI paper, Table 1, mean accuracies at n = 16 and 64: RSD 48.5, 48.8; S-BoN(small) 49.0, 49.0; GSI 51.1, 51.3;
# S-BoN(big) 52.6, 54.0.
PAPERS_ORDER = (("rsd", "soft-best-of-n:draft"), ("soft-best-of-n:draft", "gsi"), ("gsi", "soft-best-of-n:target"))


def compare_order(rows: Sequence[Row], n: int) -> list[dict[str, Any]]:
    """Compare pairs in the order of the GSI paper's Table 1 at one n, problem by problem.

    "As in the paper" is said of a pair whose interval shows it; an interval that holds 0 shows nothing.
    """
    pairs = []
    for low_label, high_label in PAPERS_ORDER:
        low, high = find_row(rows, low_label, n), find_row(rows, high_label, n)
        if low is None or high is None or low.has_failed or high.has_failed:
            continue
        difference = compare_accuracies(high, low)
        pairs.append(
            {
                "n": n,
                "lower": low.label,
                "higher": high.label,
                "difference": difference.value,
                "low_95": difference.low,
                "high_95": difference.high,
                "verdict": judge_order(difference),
            }
        )
    return pairs


def judge_order(difference: Estimate) -> str:
    """Return what an interval of the higher minus the lower row's accuracy shows."""
    if difference.low > 0:
        return "as in the paper"
    return "reversed" if difference.high < 0 else "no difference shown"


def write_order(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what ``compare_order`` found."""
    estimates = [Estimate(pair["difference"], pair["low_95"], pair["high_95"]) for pair in pairs]
    return write_table(
        [
            Column("n", [str(pair["n"]) for pair in pairs]),
            Column("lower", [pair["lower"] for pair in pairs], is_number=False),
            Column("higher", [pair["higher"] for pair in pairs], is_number=False),
            Column("difference, %", [format_percent_with_interval(each, sign="+") for each in estimates]),
            Column("", [pair["verdict"] for pair in pairs], is_number=False),
        ]
    )


def format_methods(report: str, rows: Sequence[Row], ns: Sequence[int]) -> str:
    """Return a section of RESULTS.md: the report's tables and the paper's order."""
    title, *sections = report.split("\n## ")
    conditions = [line for line in title.splitlines()[1:] if "parameters" not in line]
    shown = [f"### {section.rstrip()}" for section in sections if section.startswith(SHOWN)]
    parts = ["\n".join(conditions).strip(), *shown]
    order = [pair for n in ns for pair in compare_order(rows, n)]
    if order:
        parts += ["### The paper's order (GSI, Table 1), paired", write_order(order)]
    return "\n\n".join(parts) + "\n"


def run_plan(name: str, plan: Plan) -> tuple[str, Sequence[Row], dict[str, Any]]:
    """Run the unfinished part of a plan in an embedded system; return its report, rows and JSON, and copy its plots."""
    folder = Folder(OUT / name)
    outcome = run_with_progress(plan, folder, System())
    PLOTS.mkdir(exist_ok=True)
    for plot in sorted(folder.path.glob("*.png")):
        (PLOTS / f"{name}-{plot.name}").write_bytes(plot.read_bytes())
    return (folder.path / "report.md").read_text(), outcome.rows, outcome.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--seeds", type=int, help="seeds for the main table and the RSD comparison (default: 3)")
    parser.add_argument("--n", type=int, nargs="+", help="values of n for the main table (default: 1 4 16)")
    parser.add_argument("--only", choices=("main", "others", "sweeps"), help="make only one of the three tables")
    parser.add_argument("--json", action="store_true", help="print the reports and leave RESULTS.md unchanged")
    given = parser.parse_args()
    plans = {"main": MAIN, "others": OTHERS, "sweeps": SWEEPS}
    headings = {
        "main": "Methods (`make bench`)",
        "others": "The RSD comparison (`make bench`)",
        "sweeps": "Thresholds, beta and weightings (`make bench`)",
    }
    reports = {}
    for name, plan in plans.items():
        if given.only not in {None, name}:
            continue
        asked: dict[str, Any] = {"limit": given.problems}
        if given.seeds and name != "sweeps":
            asked["seeds"] = given.seeds
        if given.n and name == "main":
            asked["ns"] = tuple(given.n)
        chosen = plan.model_copy(update=asked)
        folder = name if chosen == plan.model_copy(update={"limit": 200}) else f"{name}-{chosen.name}"
        report, rows, reports[name] = run_plan(folder, chosen)
        if not given.json:
            write_section(headings[name], format_methods(report, rows, chosen.ns))
    if given.json:
        print(json.dumps(reports))


if __name__ == "__main__":
    main()
