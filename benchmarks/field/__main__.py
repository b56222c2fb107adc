"""``python -m benchmarks.field``: see the package."""

import argparse
import json

from benchmarks.field.passes import FULL, QUICK, estimate_hours, measure
from benchmarks.field.plots import write_plots
from benchmarks.field.report import HEADING, build_report, format_report
from benchmarks.methods import OUT, PLOTS
from benchmarks.results import progress, write_section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ask few problems, and leave RESULTS.md unchanged")
    parser.add_argument("--json", action="store_true", help="print one object and leave RESULTS.md unchanged")
    given = parser.parse_args()
    field, size = measure(QUICK), QUICK  # it tells how long the whole takes; a finished one is read from its records
    progress.print(f"the whole run takes about {estimate_hours(field, FULL):.1f} hours on this machine")
    if not given.quick:
        field, size = measure(FULL), FULL
    report = build_report(field, size)
    is_kept = not (given.quick or given.json)
    write_plots(field, PLOTS if is_kept else OUT)
    if given.json:
        print(json.dumps(report))
    elif is_kept:
        write_section(HEADING, format_report(report))
    else:
        print(format_report(report))


if __name__ == "__main__":
    main()
