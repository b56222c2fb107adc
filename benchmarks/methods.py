"""Accuracy, acceptance, time and tokens of every method, over the same held-out problems: ``make bench``.

Every job goes through the real system: Redis, a coordinator, three services. The methods take turns, seed by seed, so
that a busy moment of the machine falls on all of them alike.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.report import machine, write_section
from gsi.algorithm.candidates import Outcome
from gsi.client.demo import held_out_problems
from gsi.client.local_stack import local_stack
from gsi.client.sdk import Client
from gsi.jobs.store import JobRecord

DEMO_PROBLEMS = 24  # shown to everybody: not measured on
Z_95 = 1.96  # of the normal law


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table."""

    name: str
    params: Mapping[str, Any]


def methods(ns: Sequence[int]) -> list[Method]:
    """Return the rows in the paper's order. Soft best-of-1 is the model alone, whatever beta."""
    alone = [Method(f"{role} alone", {"method": f"soft-best-of-n:{role}", "n": 1}) for role in ("draft", "target")]
    several = [
        Method(f"{name}, n = {n}", {"method": method, "n": n})
        for name, method in (
            ("S-BoN(draft)", "soft-best-of-n:draft"),
            ("GSI", "gsi"),
            ("S-BoN(target)", "soft-best-of-n:target"),
        )
        for n in ns
        if n > 1 or method == "gsi"
    ]
    return [*alone, *several]


@dataclass(slots=True)
class Outcomes:
    """What came of one method: a list of right or wrong for each problem, and the jobs."""

    right: list[list[bool]]
    records: list[JobRecord]

    def row(self) -> dict[str, Any]:
        """Return the measured figures. The interval is over problems: a problem's seeds are not independent."""
        per_problem = [statistics.fmean(seeds) for seeds in self.right]
        half_width = Z_95 * statistics.stdev(per_problem) / len(per_problem) ** 0.5
        steps = [step for record in self.records for step in record.steps]
        return {
            "accuracy": statistics.fmean(per_problem),
            "accuracy_half_width_95": half_width,
            "acceptance_rate": statistics.fmean(s.step.outcome is Outcome.ACCEPTED for s in steps),
            "steps_per_problem": len(steps) / len(self.records),
            "seconds_per_step": statistics.fmean(s.seconds for s in steps),
            "draft_tokens_per_problem": sum(s.draft_tokens for s in steps) / len(self.records),
            "target_tokens_per_problem": sum(s.target_tokens for s in steps) / len(self.records),
            "per_problem": per_problem,
        }


async def measure(rows: Sequence[Method], num_problems: int, num_seeds: int, console: Console) -> dict[str, Any]:
    """Run every problem with every seed by every method; return a row of figures by name."""
    problems = held_out_problems(num_problems, skip=DEMO_PROBLEMS)
    outcomes = {row.name: Outcomes([[] for _ in problems], []) for row in rows}
    async with AsyncExitStack() as exits:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        progress = exits.enter_context(Progress(*columns, console=console))
        task = progress.add_task("jobs", total=len(rows) * num_seeds * len(problems))
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="gsi-bench-")))
        stack = await exits.enter_async_context(local_stack(folder, lambda *_: None))
        client = await exits.enter_async_context(Client(stack.redis_url))
        for seed in range(num_seeds):
            for row in rows:
                progress.update(task, description=f"{row.name}, seed {seed}")
                records = await run(client, row, problems, seed)
                for right, record, problem in zip(outcomes[row.name].right, records, problems, strict=True):
                    right.append(record.fields["answer"] == problem["expected"])
                outcomes[row.name].records += records
                progress.advance(task, len(problems))
    return {name: outcome.row() for name, outcome in outcomes.items()}


async def run(client: Client, row: Method, problems: Sequence[Mapping[str, str]], seed: int) -> list[JobRecord]:
    """Push all problems at once and wait for all. Problem k of seed s has job seed 1,000,000 s + k in every method."""
    ids = [
        await client.submit({"prompt": problem["prompt"], "params": {**row.params, "seed": 1_000_000 * seed + index}})
        for index, problem in enumerate(problems)
    ]
    return list(await asyncio.gather(*(client.wait(job_id) for job_id in ids)))


def order_at(results: Mapping[str, Mapping[str, Any]], n: int) -> list[dict[str, Any]]:
    """Compare neighbours in the paper's order (Table 1) at one n, problem by problem."""
    soft = {role: f"{role} alone" if n == 1 else f"S-BoN({role}), n = {n}" for role in ("draft", "target")}
    chain = ["draft alone", soft["draft"], f"GSI, n = {n}", soft["target"]]
    pairs = [(low, high) for low, high in pairwise(chain) if low != high]
    return [{"n": n, "lower": low, "higher": high, **paired(results[low], results[high])} for low, high in pairs]


def paired(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean difference of accuracies with the half width of its 95 % interval."""
    differences = [b - a for a, b in zip(low["per_problem"], high["per_problem"], strict=True)]
    half_width = Z_95 * statistics.stdev(differences) / len(differences) ** 0.5
    return {"difference": statistics.fmean(differences), "half_width_95": half_width}


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as the section of RESULTS.md."""
    base = report["methods"]["target alone"]["seconds_per_step"]
    lines = [
        f"{report['problems']} held-out problems, {report['seeds']} seeds, beta 20, u 0.5, temperature 0.7; "
        f"{report['machine']}; {report['date']}. Four jobs in flight; three services share the cores.",
        "",
        "| method | accuracy (95 %) | accepted | seconds a step | of target alone | draft tokens | target tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in report["methods"].items():
        accepted = f"{row['acceptance_rate']:.1%}" if name.startswith("GSI") else "-"
        lines.append(
            f"| {name} | {row['accuracy']:.3f} ± {row['accuracy_half_width_95']:.3f} | {accepted} "
            f"| {row['seconds_per_step']:.3f} | {row['seconds_per_step'] / base:.2f} "
            f"| {row['draft_tokens_per_problem']:.0f} | {row['target_tokens_per_problem']:.0f} |"
        )
    lines += [
        "",
        "Tokens are those written a problem, discarded ones too. The paper's order (Table 1), paired:",
    ]
    lines += ["", "| n | lower | higher | difference (95 %) | |", "|---|---|---|---|---|"]
    lines += [_order_line(pair) for pair in report["order"]]
    return "\n".join(lines) + "\n"


def _order_line(pair: Mapping[str, Any]) -> str:
    """Judge one pair. GSI may equal S-BoN(target), which it approximates; elsewhere a difference is expected."""
    difference, half_width = pair["difference"], pair["half_width_95"]
    if difference < -half_width:
        verdict = "reversed"
    elif difference > half_width or pair["lower"].startswith("GSI"):
        verdict = "as expected"
    else:
        verdict = "no difference shown"
    return f"| {pair['n']} | {pair['lower']} | {pair['higher']} | {difference:+.3f} ± {half_width:.3f} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--json", action="store_true", help="print the report; RESULTS.md is left as it is")
    given = parser.parse_args()
    results = asyncio.run(measure(methods(given.n), given.problems, given.seeds, Console(stderr=True)))
    report = {"problems": given.problems, "seeds": given.seeds, **machine(), "methods": results}
    report["order"] = [pair for n in given.n for pair in order_at(results, n)]
    if given.json:
        print(json.dumps(report))
    else:
        write_section("Methods (`make bench`)", as_markdown(report))


if __name__ == "__main__":
    main()
