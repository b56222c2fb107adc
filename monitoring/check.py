"""``make dashboards``: does every query of every panel and of every alert have an answer?

A real Prometheus scrapes the really running system once a second (``demo_run.py``); a second one does so without the
labels that scraping adds. Every query of every board and every alert of ``helm/alerts/rules.yaml`` is asked; exempt is
only what needs a GPU or KEDA, and it says so. Then the acceptance rate that the board shows must be that of the
jobs' records.

A run of minutes has no yesterday: in the copy of the rules that is loaded, windows and offsets of an hour or longer
last ``SHORTENED``. Of an alert the comparison is left out, but not what it compares
(``promql.parts_with_an_answer``).
"""

import argparse
import asyncio
import json
import math
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from gsi.algorithm.candidates import Outcome
from gsi.errors import MisconfiguredError
from monitoring import demo_run, pictures
from monitoring.board import Kind, Needs, Panel, Query
from monitoring.boards import BOARDS, ROOT, write
from monitoring.demo_run import Run
from monitoring.grafana_json import CHOICES
from monitoring.prometheus_server import Answer, Prometheus, prometheus
from monitoring.promql import RANGE, coordinators, filled_in, names_in, parts_with_an_answer
from monitoring.speculation_board import acceptance

RULES = ROOT / "helm" / "alerts" / "rules.yaml"
RATE_INTERVAL = "15s"
STEP_SECONDS = 2.0
LATE_SECONDS = 6.0
SHORTENED = "45s"
DURATION = re.compile(r"\b\d+[smhdwy](?:\d+[smhdwy])*\b")
HOUR = 3600.0
NEEDS_BY_PREFIX = {"gsi_gpu_": Needs.GPU, "keda_": Needs.KEDA}


@dataclass(frozen=True, slots=True)
class Question:
    """A query and where it stands. ``needs`` exempts it; ``label``: what bars stand for, which its series must have."""

    where: str
    expr: str
    is_instant: bool
    needs: Needs | None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Pass:
    """One way to ask everything: of which server, with which variables chosen; the others are "All"."""

    name: str
    server: Prometheus
    chosen: Mapping[str, str]


@dataclass(slots=True)
class Findings:
    """What came out. ``problems``: a sentence each; none, and the exit code is 0."""

    queries: int = 0
    with_data: int = 0
    exempt: list[dict[str, str]] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)  # with data, by pass
    variables: dict[str, list[str]] = field(default_factory=dict)
    acceptance: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def questions() -> Iterator[Question]:
    """Yield every query of every board and every alert."""
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                where, label = f"{board.title} / {panel.title}", query.legend if panel.kind is Kind.BARS else ""
                yield Question(where, query.expr, panel.kind.is_instant, panel.needs, label)
    for name, expr, needs in alerts(RULES.read_text(encoding="utf-8")):
        yield Question(f"alert {name}", shortened(expr), is_instant=False, needs=needs)


def alerts(text: str) -> Iterator[tuple[str, str, Needs | None]]:
    """Yield name and expression of each alert of a rule file, and what the series need that it is made from."""
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    for rule in rules:
        if "alert" in rule:
            yield rule["alert"], rule["expr"], needed(_traced(rule["expr"], recorded))


def needed(names: set[str]) -> Needs | None:
    """Return what a query with these metrics needs: a GPU, KEDA, or nothing."""
    found = {need for name in names for prefix, need in NEEDS_BY_PREFIX.items() if name.startswith(prefix)}
    return min(found, default=None)


def shortened(text: str) -> str:
    """Return rules, or an expression, whose windows and offsets of an hour or longer last ``SHORTENED``."""

    def replaced(match: re.Match[str]) -> str:
        is_long = promql_parser.parse_duration(match[0]).total_seconds() >= HOUR
        return SHORTENED if is_long else match[0]

    return DURATION.sub(replaced, text)


def rules_to_load() -> str:
    """Return the committed rules with short windows, as a rule file."""
    loaded = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in loaded["groups"]:
        for rule in group["rules"]:
            rule["expr"] = shortened(rule["expr"])
    return yaml.safe_dump(loaded)


def ask(question: Question, asked: Pass, run: Run) -> list[list[Answer]]:
    """Return the answers to each part of a question. Raises ValueError if Prometheus refuses it.

    A panel of one moment may show any of the last seconds: on a busy machine a scrape is late now and then.
    """
    expr = filled_in(question.expr, asked.chosen, RATE_INTERVAL, _time_range(run))
    start = run.ended - LATE_SECONDS if question.is_instant else run.started
    return [asked.server.over(part, start, run.ended, STEP_SECONDS) for part in parts_with_an_answer(expr)]


def examine(passes: Sequence[Pass], run: Run) -> Findings:
    """Ask everything in every way."""
    findings = Findings()
    for question in questions():
        findings.queries += 1
        lacking = [asked.name for asked in passes if not _is_answered(question, asked, run, findings)]
        if question.needs is not None:
            findings.exempt.append({"where": question.where, "query": question.expr, "reason": question.needs.value})
            continue
        findings.with_data += not lacking
        if lacking:
            findings.problems.append(f"no data ({', '.join(lacking)}): {question.where}: {question.expr}")
    for name, selector in CHOICES.items():
        values = passes[0].server.label_values(name, filled_in(selector, {}, RATE_INTERVAL, _time_range(run)))
        findings.variables[name] = values
        if not values:
            findings.problems.append(f"no values of variable {name}: {selector}")
    return findings


def compare_acceptance(asked: Pass, run: Run) -> dict[str, Any]:
    """Return the acceptance rate that the panel shows for the measured jobs, and the one in their records.

    A rate extrapolates to the edges of its window, so it is near the truth and not equal to it. The processes began at
    0 and nothing but the measured jobs had run, so the counters themselves are their growth over the run: the panel's
    query is asked with each ``rate(series[window])`` replaced by the last value of ``series``.
    """
    panel = _value(asked, as_counters(acceptance(RANGE)), run.settled)
    counted = Counter(step.outcome for record in run.measured for step in record.steps)
    in_records = {outcome.value: counted[outcome] for outcome in Outcome}
    steps = as_counters(coordinators("gsi_steps_total", 'outcome="%s"', RANGE))
    in_counters = {outcome.value: _value(asked, f"sum({steps % outcome.value})", run.settled) for outcome in Outcome}
    records = counted[Outcome.ACCEPTED] / sum(counted.values())
    return {
        "panel": panel,
        "records": records,
        "steps_in_records": in_records,
        "steps_in_counters": in_counters,
        "is_equal": panel == records and in_counters == in_records,
    }


def as_counters(expr: str) -> str:
    """Return a query with the last values of its counters in place of their rates."""
    return re.sub(r"rate\((\w+\{[^}]*\}\[)[^\]]+\]\)", rf"last_over_time(\g<1>{LATE_SECONDS:.0f}s])", expr)


def shown(asked: Pass, run: Run, panel: Panel, query: Query) -> list[Answer]:
    """Return what a panel shows of a query."""
    expr = filled_in(query.expr, asked.chosen, RATE_INTERVAL, _time_range(run))
    if panel.kind.is_instant:
        return asked.server.at(expr, run.ended)
    return asked.server.over(expr, run.started, run.ended, STEP_SECONDS)


async def check(folder: Path, *, is_drawing: bool) -> Findings:
    """Run the system, ask everything, compare, and draw if asked to. ``folder`` gets logs and data."""
    began = time.monotonic()
    async with demo_run.system(folder, _report) as running:
        with ExitStack() as exits:
            servers = []
            for name, labels in (("labelled", True), ("bare", False)):
                (folder / name).mkdir()
                targets = [target if labels else replace(target, labels={}) for target in running.targets]
                servers.append(exits.enter_context(prometheus(folder / name, targets, rules_to_load())))
            run = await demo_run.run(running, _say)
            _say("asking")
            passes = [Pass("labelled", servers[0], {}), Pass("bare", servers[1], {})]
            passes.append(Pass("chosen", servers[0], _chosen(servers[0])))
            findings = examine(passes, run)
            findings.acceptance = compare_acceptance(passes[0], run)
            if not findings.acceptance["is_equal"]:
                findings.problems.append(f"acceptance differs from the records': {findings.acceptance}")
            if is_drawing:
                for path in pictures.draw(
                    BOARDS, partial(shown, passes[0], run), run.started, ROOT / "docs" / "dashboards"
                ):
                    _say(f"drew {path.relative_to(ROOT)}")
    findings.seconds = round(time.monotonic() - began, 1)
    return findings


def _is_answered(question: Question, asked: Pass, run: Run, findings: Findings) -> bool:
    """Ask; note how many were answered in this way, and what Prometheus refuses even where no data are expected."""
    try:
        answers = ask(question, asked, run)
    except ValueError as error:
        findings.problems.append(f"refused ({asked.name}): {question.where}: {error}")
        return False
    has_data = all(any(_can_be_drawn(answer, question) for answer in part) for part in answers)
    findings.passes[asked.name] = findings.passes.get(asked.name, 0) + has_data
    return has_data


def _value(asked: Pass, expr: str, when: float) -> float:
    """Return the only value of an answer; NaN, which equals nothing, if there is none or are several."""
    answers = asked.server.at(filled_in(expr, asked.chosen, RATE_INTERVAL, ""), when)
    return answers[0].points[0][1] if len(answers) == 1 else math.nan


def _can_be_drawn(answer: Answer, question: Question) -> bool:
    return answer.has_data and (not question.label or question.label in answer.labels)


def _chosen(server: Prometheus) -> dict[str, str]:
    """Return one value of each variable, as somebody chooses who looks at one queue and its target model."""
    [model] = server.label_values("target", "gsi_models_info")
    return {
        "namespace": demo_run.NAMESPACE,
        "release": demo_run.RELEASE,
        "queue": demo_run.QUEUE,
        "model": re.escape(model).replace("\\", "\\\\"),  # as Grafana does
    }


def _traced(expr: str, recorded: Mapping[str, str]) -> set[str]:
    """Return the metrics that an expression is made from, through recording rules."""
    names = names_in(expr)
    return names | {deeper for name in names if name in recorded for deeper in _traced(recorded[name], recorded)}


def _time_range(run: Run) -> str:
    return f"{int(run.ended - run.started)}s"


def _report(process: str, event: Mapping[str, Any]) -> None:
    if event.get("level") in {"error", "critical"} or event.get("event") == "ready":
        _say(f"{process}: {event.get('event')}")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _printed(findings: Findings) -> str:
    """Return the findings for a person."""
    reasons = Counter(exempt["reason"] for exempt in findings.exempt)
    acceptance_rate = findings.acceptance
    lines = [
        f"{findings.queries} queries, {findings.with_data} with data, {len(findings.exempt)} exempt "
        f"({', '.join(f'{name}: {count}' for name, count in findings.passes.items())}), {findings.seconds:.0f} s",
        *(f"  exempt: {count}, since each {reason}" for reason, count in reasons.items()),
        f"acceptance: panel {acceptance_rate['panel']:.6f}, records {acceptance_rate['records']:.6f}",
        *findings.problems,
    ]
    return "\n".join(lines)


def main() -> int:
    """Check, or with --write only write what is generated; return the exit code."""
    parser = argparse.ArgumentParser(prog="make dashboards", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--draw", action="store_true", help="draw docs/dashboards/*.png from this run")
    parser.add_argument("--write", action="store_true", help="write helm/dashboards and docs/dashboards.md; no run")
    arguments = parser.parse_args()
    if arguments.write:
        write()
        return 0
    with tempfile.TemporaryDirectory(prefix="gsi-dashboards-") as folder:
        try:
            findings = asyncio.run(check(Path(folder), is_drawing=arguments.draw))
        except MisconfiguredError as error:
            _say(f"cannot run: {error}")
            return 1
    if arguments.json:
        print(json.dumps({name: getattr(findings, name) for name in Findings.__slots__}, indent=1))
    else:
        print(_printed(findings))
    for problem in findings.problems if arguments.json else ():
        _say(problem)
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
