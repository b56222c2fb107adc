"""Write the rules of the service level objectives: ``python -m monitoring.slo [OPTIONS] [FILE]``.

Objectives are about a deployment, so they are options. ``helm/alerts/slo.yaml`` has their defaults. Source of
windows and burn rates: Beyer et al., The Site Reliability Workbook, chapter 5: an alert needs
a long window, so that it is worth a call, and a short one, so that it ends soon after its cause.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gsi.jobs.keys import Priority
from gsi.jobs.state import JobState
from services.coordinator.metrics import ANSWER_SECONDS_BUCKETS

LABELS = "namespace, release, queue"
BUDGET_DAYS = 30
MISSED = (JobState.DEAD, JobState.EXPIRED)  # what the service owed; FAILED and CANCELLED are the caller's
FEWEST_ENDS = 10  # of a window: one failure in a quiet night wakes nobody


@dataclass(frozen=True, slots=True)
class Alert:
    """How fast the error budget burns, over two windows. 1 is the rate that uses it up in 30 days."""

    name: str
    severity: str
    burn_rate: float
    long: str
    short: str


@dataclass(frozen=True, slots=True)
class Objectives:
    """The share of jobs that succeed, and by lane the seconds in which a share of the answers is there."""

    success: float = 0.999
    answered: float = 0.95
    seconds: Mapping[Priority, float] = field(
        default_factory=lambda: {Priority.HIGH: 60.0, Priority.NORMAL: 600.0, Priority.LOW: 14_400.0}
    )


ALERTS = (
    Alert("Fast", "critical", 14.4, "1h", "5m"),  # 2 % of the budget in an hour
    Alert("Slow", "warning", 6.0, "6h", "30m"),  # 5 % in six hours
)
BURN_WINDOWS = tuple(window for alert in ALERTS for window in (alert.long, alert.short))
WINDOWS = ("5m", "30m", "1h", "6h", f"{BUDGET_DAYS}d")


def make_rules(objectives: Objectives) -> dict[str, Any]:
    """Return a Prometheus rule file."""
    return {
        "groups": [
            {"name": "gsi-slo-recorded", "rules": [*_record_success(objectives), *_record_answers(objectives)]},
            {"name": "gsi-slo", "rules": [*_alert_on_success(objectives), *_alert_on_answers(objectives)]},
        ]
    }


def _ended(states: Sequence[JobState], window: str) -> str:
    return f'sum by ({LABELS}) (increase(gsi_jobs_ended_total{{state=~"{"|".join(states)}"}}[{window}]))'


def _record_success(objectives: Objectives) -> Iterator[dict[str, Any]]:
    """Of the jobs that the service owed an answer, the share that got none."""
    counted = (JobState.SUCCEEDED, *MISSED)
    for window in WINDOWS:
        yield {"record": f"release:gsi_slo_owed:increase{window}", "expr": _ended(counted, window)}
        yield {
            "record": f"release:gsi_slo_missed:ratio{window}",
            "expr": f"{_ended(MISSED, window)} / (release:gsi_slo_owed:increase{window} > 0)",
        }
    yield from _record_budget("missed", 1 - objectives.success)


def _record_answers(objectives: Objectives) -> Iterator[dict[str, Any]]:
    """Of the answers of a lane, the share that came later than its objective."""
    for window in WINDOWS:
        for lane, seconds in objectives.seconds.items():
            total = f'sum by ({LABELS}, lane) (increase(gsi_answer_seconds_count{{lane="{lane}"}}[{window}]))'
            bound = f'lane="{lane}", le="{float(seconds)}"'
            in_time = f"sum by ({LABELS}, lane) (increase(gsi_answer_seconds_bucket{{{bound}}}[{window}]))"
            yield {
                "record": f"release:gsi_slo_answers:increase{window}",
                "expr": total,
                "labels": {"lane": lane.value},
            }
            yield {
                "record": f"release:gsi_slo_late:ratio{window}",
                "expr": f"1 - {in_time} / ({total} > 0)",
                "labels": {"lane": lane.value},
            }
    yield from _record_budget("late", 1 - objectives.answered)


def _record_budget(what: str, allowed: float) -> Iterator[dict[str, Any]]:
    """What is left of the budget, and how fast it burns, for boards. ``allowed``: the share that may go wrong."""
    ratio = f"release:gsi_slo_{what}:ratio"
    yield {"record": f"release:gsi_slo_{what}:budget_left", "expr": f"1 - {ratio}{BUDGET_DAYS}d / {allowed:.6g}"}
    for window in BURN_WINDOWS:
        yield {"record": f"release:gsi_slo_{what}:burn_rate{window}", "expr": f"{ratio}{window} / {allowed:.6g}"}


def _burns(what: str, counted: str, allowed: float, alert: Alert) -> str:
    limit = f"{alert.burn_rate * allowed:.6g}"
    return (
        f"release:gsi_slo_{what}:ratio{alert.long} > {limit}\n"
        f"  and release:gsi_slo_{what}:ratio{alert.short} > {limit}\n"
        f"  and release:gsi_slo_{counted}:increase{alert.long} >= {FEWEST_ENDS}\n"
    )


def _alert_on_success(objectives: Objectives) -> Iterator[dict[str, Any]]:
    for alert in ALERTS:
        yield _make_alert(
            f"GsiSuccessBudgetBurns{alert.name}",
            _burns("missed", "owed", 1 - objectives.success, alert),
            alert,
            f"{{{{ $value | humanizePercentage }}}} of the jobs in {alert.long} ended DEAD or EXPIRED; "
            f"the objective allows {1 - objectives.success:.3%} in {BUDGET_DAYS} days",
        )


def _alert_on_answers(objectives: Objectives) -> Iterator[dict[str, Any]]:
    for alert in ALERTS:
        yield _make_alert(
            f"GsiAnswerTimeBudgetBurns{alert.name}",
            _burns("late", "answers", 1 - objectives.answered, alert),
            alert,
            f"{{{{ $value | humanizePercentage }}}} of the answers of lane {{{{ $labels.lane }}}} in {alert.long} came "
            f"later than its objective, which allows {1 - objectives.answered:.3g} in {BUDGET_DAYS} days",
        )


def _make_alert(name: str, expression: str, alert: Alert, description: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": f"The error budget burns {alert.burn_rate:g} times as fast as it may"
            "{{ with $labels.release }} in release {{ . }}{{ end }}",
            "description": f'{description} (namespace "{{{{ $labels.namespace }}}}", queue "{{{{ $labels.queue }}}}").',
            "runbook_url": f"docs/runbook.md#{name.lower()}",
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)

HEAD = "# Written by `python -m monitoring.slo`, which takes other objectives as options. What it means: docs/slo.md.\n"


def write(objectives: Objectives) -> str:
    """Return the text of the rule file."""
    return HEAD + yaml.dump(make_rules(objectives), Dumper=_Dumper, sort_keys=False, width=10_000)


def _parse(arguments: Sequence[str] | None) -> tuple[Objectives, Path | None]:
    ready = Objectives()
    parser = argparse.ArgumentParser(prog="python -m monitoring.slo", description=str(__doc__).splitlines()[0])
    parser.add_argument("--success", type=_share, default=ready.success, help="share of jobs that succeed")
    parser.add_argument("--answered", type=_share, default=ready.answered, help="share of answers within the time")
    for lane, seconds in ready.seconds.items():
        parser.add_argument(
            f"--{lane}", type=float, choices=ANSWER_SECONDS_BUCKETS, default=seconds, help=f"seconds of lane {lane}"
        )
    parser.add_argument("file", type=Path, nargs="?", help="where to write; standard output unless given")
    given = parser.parse_args(arguments)
    return Objectives(given.success, given.answered, {lane: getattr(given, lane) for lane in Priority}), given.file


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: a share between 0 and 1, such as 0.999")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the rules of the objectives that the command line gives."""
    objectives, file = _parse(arguments)
    if file is None:
        sys.stdout.write(write(objectives))
    else:
        file.write_text(write(objectives), encoding="utf-8")


if __name__ == "__main__":
    main()
