"""A run as a section of RESULTS.md."""

from collections.abc import Iterator, Mapping
from typing import Any

HEADING = "On a GPU (`make gpu`)"
FIGURES = {
    "step_seconds": "seconds a step, of which 91 % are accepted",
    "accepted_step_seconds": "seconds an accepted step",
    "rejected_step_seconds": "seconds a rejected step",
    "plain_target_seconds": "seconds of a sample of 80 tokens by the target alone",
    "step_over_plain_target": "GSI's step over that sample",
    "step_over_sbon_target": "GSI's step over that of S-BoN(target)",
    "scoring_hidden_share": "share of the scoring that hides behind the drafting",
}


def format_run(report: Mapping[str, Any]) -> str:
    """Return the text below the heading."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    machine = report["parts"].get("machine", {}).get("figures", {})
    gpus = ", ".join(gpu["name"] for gpu in machine.get("gpus", [])) or "no GPU"
    packages = ", ".join(f"{name} {found}" for name, found in machine.get("packages", {}).items())
    yield f"{gpus}; {report['machine']}; {report['date']}; {packages}."
    yield "Random weights of the paper's sizes, n = 16, steps of at most 80 tokens, one job at a time."
    yield ""
    yield "| part | state | seconds |"
    yield "|---|---|--:|"
    for name, result in report["parts"].items():
        yield f"| {name} | {result['state']} | {_show(result.get('seconds'), 0)} |"
    yield ""
    yield from _format_goals(report["goals"])
    yield from _format_tests(report["parts"].get("tests", {}).get("figures", {}))
    for name in ("one GPU", "three GPUs"):
        figures = report["parts"].get(name, {}).get("figures", {})
        if figures:
            yield from _format_system(name, figures)


def _format_goals(goals: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| goal, with three GPUs | measured | at most | met |"
    yield "|---|--:|--:|---|"
    for name, goal in goals.items():
        met = {None: "not measured", True: "yes", False: "no"}[goal["met"]]
        yield f"| {FIGURES[name]} | {_show(goal['measured'])} | {goal['at_most']:.2f} | {met} |"
    yield ""


def _format_tests(files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not files:
        return
    yield "| tests on the GPU | passed | failed | skipped |"
    yield "|---|--:|---|--:|"
    for name, result in files.items():
        failed = "did not all run" if "error" in result else ", ".join(result["failed"]) or "none"
        yield f"| {name} | {result.get('passed', '-')} | {failed} | {result.get('skipped', '-')} |"
    yield ""


def _format_system(name: str, figures: Mapping[str, Any]) -> Iterator[str]:
    planned_for = figures.get("planned_for") or "no GPU that the planner knows"
    title = name[0].upper() + name[1:]
    yield f"**{title}.** Ready after {_show(figures.get('start_seconds'), 0)} s. Planned for {planned_for}."
    yield ""
    if calls := figures.get("calls"):
        yield "| call | rows | context | seconds | planned | floor |"
        yield "|---|--:|--:|--:|--:|--:|"
        for call in calls:
            what = f"{call['role']} {call['does']}"
            yield f"| {what} | {call['rows']} | {call['context']} | {_show_beside_plan(call, 'seconds')} |"
        yield ""
    if steps := figures.get("steps"):
        yield "| way | steps | seconds a step | planned | floor |"
        yield "|---|--:|--:|--:|--:|"
        for way, step in steps.items():
            yield f"| {way} | {step['steps']} | {_show_beside_plan(step, 'seconds_per_step')} |"
        yield ""
    yield "| figure | measured |"
    yield "|---|--:|"
    for key, words in FIGURES.items():
        yield f"| {words} | {_show(figures.get('figures', {}).get(key))} |"
    yield f"| seconds an accepted step, through the queue | {_show(figures.get('seconds_per_step_by_queue'))} |"
    for role, rate in figures.get("prefix_hit_rates", {}).items():
        yield f"| share of the {role}'s prompt tokens that were in its cache | {_show(rate)} |"
    for gpu, seen in figures.get("gpus_by_metrics", {}).items():
        yield f"| highest `gsi_gpu_utilization_ratio` of GPU {gpu} | {_show(seen.get('highest_utilization'))} |"
    yield ""


def _show_beside_plan(row: Mapping[str, Any], seconds: str) -> str:
    return " | ".join(_show(row.get(name)) for name in (seconds, "planned_seconds", "floor_seconds"))


def _show(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
