"""``make dashboards``: does every query of every panel and of every alert have an answer?

A real Prometheus scrapes the running system once a second (``demo_run.py``); a second Prometheus does so without the
labels that scraping adds. The check asks every query of the boards and of the alerts in ``helm/alerts``.
Only queries that need a GPU, KEDA or kube-state-metrics are exempt, and their panels say so. Then the acceptance rate
on the board must equal that of the jobs' records.

The run takes minutes and has no day before it, so the loaded copy of the rules has ``SHORT_WINDOW`` in place of windows
and offsets of an hour or longer. The check drops an alert's comparison but needs an answer for both of its sides
(``promql.find_required_parts``).
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
from monitoring import demo_run
from monitoring.board import Kind, Needs, Panel, Query
from monitoring.boards import BOARDS, ROOT, write_files
from monitoring.demo_run import DemoRun
from monitoring.grafana_json import CHOICES
from monitoring.pictures import draw_pictures
from monitoring.prometheus_server import Answer, Prometheus, run_prometheus
from monitoring.promql import RANGE, coordinators, fill_in, find_metrics, find_required_parts
from monitoring.speculation_board import acceptance

RULES = tuple(ROOT / "helm" / "alerts" / name for name in ("rules.yaml", "slo.yaml"))
RATE_INTERVAL = "15s"
STEP_SECONDS = 2.0
LATE_SECONDS = 6.0
SHORT_WINDOW = "45s"
DURATION = re.compile(r"\b\d+[smhdwy](?:\d+[smhdwy])*\b")
HOUR = 3600.0
NEEDS_BY_PREFIX = {"gsi_gpu_": Needs.GPU, "keda_": Needs.KEDA, "kube_": Needs.CLUSTER}


@dataclass(frozen=True, slots=True)
class Question:
    """A query and its place. ``needs`` exempts it. ``label`` is the label of a panel's bars, which series must have."""

    where: str
    expr: str
    is_instant: bool
    needs: Needs | None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over all questions: the server to ask, and the chosen variables. Other variables are "All"."""

    name: str
    server: Prometheus
    chosen: Mapping[str, str]


@dataclass(slots=True)
class Findings:
    """The results of a check. ``problems`` has a sentence for each problem; without problems the exit code is 0."""

    queries: int = 0
    with_data: int = 0
    exempt: list[dict[str, str]] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)  # queries with data, by pass
    variables: dict[str, list[str]] = field(default_factory=dict)
    acceptance: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def list_questions() -> Iterator[Question]:
    """Yield every query of every board and every alert."""
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                where, label = f"{board.title} / {panel.title}", query.legend if panel.kind is Kind.BARS else ""
                yield Question(where, query.expr, panel.kind.is_instant, panel.needs, label)
    for rules in RULES:
        for name, expr, needs in read_alerts(rules.read_text(encoding="utf-8")):
            yield Question(f"alert {name}", shorten_windows(expr), is_instant=False, needs=needs)


def read_alerts(text: str) -> Iterator[tuple[str, str, Needs | None]]:
    """Yield name, expression and needs of each alert in a rule file."""
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    for rule in rules:
        if "alert" in rule:
            yield rule["alert"], rule["expr"], find_need(_trace_metrics(rule["expr"], recorded))


def find_need(metrics: set[str]) -> Needs | None:
    """Return what a query with these metrics needs: a GPU, KEDA, or nothing."""
    found = {need for name in metrics for prefix, need in NEEDS_BY_PREFIX.items() if name.startswith(prefix)}
    return min(found, default=None)


def shorten_windows(text: str) -> str:
    """Replace windows and offsets of an hour or longer in rules or an expression by ``SHORT_WINDOW``."""

    def replace_long(match: re.Match[str]) -> str:
        is_long = promql_parser.parse_duration(match[0]).total_seconds() >= HOUR
        return SHORT_WINDOW if is_long else match[0]

    return DURATION.sub(replace_long, text)


def shorten_rules() -> str:
    """Return the committed rules with short windows, as the text of a rule file."""
    groups = [group for rules in RULES for group in yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]]
    for group in groups:
        for rule in group["rules"]:
            rule["expr"] = shorten_windows(rule["expr"])
    return yaml.safe_dump({"groups": groups})


def ask(question: Question, asked: Pass, run: DemoRun) -> list[list[Answer]]:
    """Return the answers to each part of a question. Raises ValueError if Prometheus refuses the question.

    For a panel of one moment, any of the last seconds counts: on a busy machine a scrape may be late.
    """
    expr = fill_in(question.expr, asked.chosen, RATE_INTERVAL, _format_time_range(run))
    start = run.ended - LATE_SECONDS if question.is_instant else run.started
    return [asked.server.query_range(part, start, run.ended, STEP_SECONDS) for part in find_required_parts(expr)]


def examine(passes: Sequence[Pass], run: DemoRun) -> Findings:
    """Ask every question in every pass."""
    findings = Findings()
    for question in list_questions():
        findings.queries += 1
        lacking = [asked.name for asked in passes if not _check_answer(question, asked, run, findings)]
        if question.needs is not None:
            findings.exempt.append({"where": question.where, "query": question.expr, "reason": question.needs.value})
            continue
        findings.with_data += not lacking
        if lacking:
            findings.problems.append(f"no data ({', '.join(lacking)}): {question.where}: {question.expr}")
    for name, selector in CHOICES.items():
        values = passes[0].server.list_label_values(name, fill_in(selector, {}, RATE_INTERVAL, _format_time_range(run)))
        findings.variables[name] = values
        if not values:
            findings.problems.append(f"no values of variable {name}: {selector}")
    return findings


def compare_acceptance(asked: Pass, run: DemoRun) -> dict[str, Any]:
    """Return the measured jobs' acceptance rate in the panel and in their records.

    ``rate`` extrapolates to the edges of its window, so its value is near the truth but not equal to it. The processes
    started at 0 and only the measured jobs had run, so the counters are their own growth over the run. The check
    therefore asks the panel's query with the last value of ``series`` in place of each ``rate(series[window])``.
    """
    panel = _ask_value(asked, replace_rates(acceptance(RANGE)), run.settled)
    counted = Counter(step.outcome for record in run.measured for step in record.steps)
    in_records = {outcome.value: counted[outcome] for outcome in Outcome}
    steps = replace_rates(coordinators("gsi_steps_total", 'outcome="%s"', RANGE))
    in_counters = {
        outcome.value: _ask_value(asked, f"sum({steps % outcome.value})", run.settled) for outcome in Outcome
    }
    records = counted[Outcome.ACCEPTED] / sum(counted.values())
    return {
        "panel": panel,
        "records": records,
        "steps_in_records": in_records,
        "steps_in_counters": in_counters,
        "is_equal": panel == records and in_counters == in_records,
    }


def replace_rates(expr: str) -> str:
    """Replace the rates of counters in a query by the counters' last values."""
    return re.sub(r"rate\((\w+\{[^}]*\}\[)[^\]]+\]\)", rf"last_over_time(\g<1>{LATE_SECONDS:.0f}s])", expr)


def ask_panel(asked: Pass, run: DemoRun, panel: Panel, query: Query) -> list[Answer]:
    """Return the series that a panel shows for a query."""
    expr = fill_in(query.expr, asked.chosen, RATE_INTERVAL, _format_time_range(run))
    if panel.kind.is_instant:
        return asked.server.query(expr, run.ended)
    return asked.server.query_range(expr, run.started, run.ended, STEP_SECONDS)


async def check(folder: Path, *, is_drawing: bool) -> Findings:
    """Run the system, ask every question, compare the acceptance, and perhaps draw. ``folder`` gets logs and data."""
    began = time.monotonic()
    async with demo_run.start_system(folder, _print_event) as running:
        with ExitStack() as exits:
            servers = []
            for name, labels in (("labelled", True), ("bare", False)):
                (folder / name).mkdir()
                targets = [target if labels else replace(target, labels={}) for target in running.targets]
                servers.append(exits.enter_context(run_prometheus(folder / name, targets, shorten_rules())))
            run = await demo_run.run_jobs(running, _say)
            _say("asking every query")
            passes = [Pass("labelled", servers[0], {}), Pass("bare", servers[1], {})]
            passes.append(Pass("chosen", servers[0], _choose_values(servers[0])))
            findings = examine(passes, run)
            findings.acceptance = compare_acceptance(passes[0], run)
            if not findings.acceptance["is_equal"]:
                findings.problems.append(f"acceptance differs from the records': {findings.acceptance}")
            if is_drawing:
                shown = partial(ask_panel, passes[0], run)
                for path in draw_pictures(BOARDS, shown, run.started, ROOT / "docs" / "dashboards"):
                    _say(f"drew {path.relative_to(ROOT)}")
    findings.seconds = round(time.monotonic() - began, 1)
    return findings


def _check_answer(question: Question, asked: Pass, run: DemoRun, findings: Findings) -> bool:
    """Tell whether a question has data, and count it. A refusal by Prometheus is a problem even for exempt queries."""
    try:
        answers = ask(question, asked, run)
    except ValueError as error:
        findings.problems.append(f"refused ({asked.name}): {question.where}: {error}")
        return False
    has_data = all(any(_can_be_drawn(answer, question) for answer in part) for part in answers)
    findings.passes[asked.name] = findings.passes.get(asked.name, 0) + has_data
    return has_data


def _ask_value(asked: Pass, expr: str, when: float) -> float:
    """Return the only value of an answer, or NaN, which equals nothing, if there are no or several values."""
    answers = asked.server.query(fill_in(expr, asked.chosen, RATE_INTERVAL, ""), when)
    return answers[0].points[0][1] if len(answers) == 1 else math.nan


def _can_be_drawn(answer: Answer, question: Question) -> bool:
    return answer.has_data and (not question.label or question.label in answer.labels)


def _choose_values(server: Prometheus) -> dict[str, str]:
    """Return one value of each variable, as a user would choose to look at one queue and its target model."""
    [model] = server.list_label_values("target", "gsi_models_info")
    return {
        "namespace": demo_run.NAMESPACE,
        "release": demo_run.RELEASE,
        "queue": demo_run.MAIN_QUEUE,
        "model": re.escape(model).replace("\\", "\\\\"),  # as Grafana does
    }


def _trace_metrics(expr: str, recorded: Mapping[str, str]) -> set[str]:
    """Return the metrics that an expression names, itself or through recording rules."""
    names = find_metrics(expr)
    return names | {deeper for name in names if name in recorded for deeper in _trace_metrics(recorded[name], recorded)}


def _format_time_range(run: DemoRun) -> str:
    return f"{int(run.ended - run.started)}s"


def _print_event(process: str, event: Mapping[str, Any]) -> None:
    if event.get("level") in {"error", "critical"} or event.get("event") == "ready":
        _say(f"{process}: {event.get('event')}")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _format_findings(findings: Findings) -> str:
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
    """Check, or with --write only write the generated files; return the exit code."""
    parser = argparse.ArgumentParser(prog="make dashboards", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    parser.add_argument("--draw", action="store_true", help="draw docs/dashboards/*.png from this run")
    parser.add_argument("--write", action="store_true", help="write helm/dashboards and docs/dashboards.md, and stop")
    arguments = parser.parse_args()
    if arguments.write:
        write_files()
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
        print(_format_findings(findings))
    for problem in findings.problems if arguments.json else ():
        _say(problem)
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
