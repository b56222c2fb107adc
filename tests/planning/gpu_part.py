"""A part of a GPU run that ends as the environment variable says."""

import os
import time

from benchmarks.gpu.parts import Report


def measure(report: Report, *, is_rehearsal: bool) -> None:
    report.put("rehearsal", is_rehearsal)
    if os.environ["PART_ENDS"] == "badly":
        raise ValueError("the second half does not work")
    if os.environ["PART_ENDS"] == "never":
        time.sleep(60)
    report.put("second half", [1, 2])
