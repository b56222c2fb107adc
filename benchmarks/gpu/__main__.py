"""``make gpu``: run every part, and write what came out into RESULTS.md, missed goals too.

Exits with 2 if this machine has no NVIDIA GPU, with 1 if a part did not end well.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.figures import meet_goals
from benchmarks.gpu.parts import PARTS, TOTAL_SECONDS, Part, run_part
from benchmarks.gpu.report import HEADING, format_run
from benchmarks.results import progress, publish
from gsi.errors import MisconfiguredError
from gsi.local.installed_gpus import list_gpus
from gsi.runtime.machine import describe_machine, today

EXIT_PART_FAILED = 1
EXIT_NO_GPU = 2
LEFT_OUT = ("needs more GPUs", "no time left")


def run_parts(parts: Sequence[Part], num_gpus: int, total_seconds: float, *, is_rehearsal: bool) -> dict[str, Any]:
    """Run the parts in turn until the time is over; return what came of each."""
    ends_at = time.monotonic() + total_seconds
    results: dict[str, Any] = {}
    for part in parts:
        limit = min(part.limit_seconds, ends_at - time.monotonic())
        if part.num_gpus > num_gpus and not is_rehearsal:
            results[part.name] = {"state": LEFT_OUT[0], "figures": {}}
        elif limit <= 0:
            results[part.name] = {"state": LEFT_OUT[1], "figures": {}}
        else:
            progress.print(f"{part.name}: at most {limit:.0f} s", style="dim", highlight=False)
            results[part.name] = run_part(part, limit, is_rehearsal=is_rehearsal)
        progress.print(f"{part.name}: {results[part.name]['state']}", highlight=False)
    return results


def make_report(results: dict[str, Any], seconds: float, *, is_rehearsal: bool) -> dict[str, Any]:
    """Return everything as JSON values. The goals are those of the paper's setting, a GPU for each model."""
    figures = results.get("three GPUs", {}).get("figures", {}).get("figures", {})
    return {
        "rehearsal": is_rehearsal,
        "machine": describe_machine(),
        "date": today(),
        "seconds": seconds,
        "goals": {} if is_rehearsal else meet_goals(figures),
        "parts": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the report and leave RESULTS.md unchanged")
    parser.add_argument("--rehearse", action="store_true", help="tiny models on the CPU: tests this program alone")
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="for all parts together")
    given = parser.parse_args()
    num_gpus = 0
    try:
        num_gpus = 0 if given.rehearse else len(list_gpus())
    except MisconfiguredError as error:
        print(f"{error}. Without a GPU, --rehearse tests this program on the CPU.", file=sys.stderr)
        sys.exit(EXIT_NO_GPU)
    started = time.monotonic()
    chosen = [part for part in PARTS if part.name in given.parts]
    results = run_parts(chosen, num_gpus, given.seconds, is_rehearsal=given.rehearse)
    report = make_report(results, time.monotonic() - started, is_rehearsal=given.rehearse)
    if given.rehearse and not given.json:
        print(json.dumps(report, indent=2))
    else:
        publish(report, HEADING, format_run, as_json=given.json)
    if any(result["state"] not in ("done", *LEFT_OUT) for result in results.values()):
        sys.exit(EXIT_PART_FAILED)


if __name__ == "__main__":
    main()
