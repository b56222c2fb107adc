"""The three models on a GPU each, as in the paper."""

import asyncio

from benchmarks.gpu.parts import Report
from benchmarks.gpu.system import measure_system


def measure(report: Report, *, is_rehearsal: bool) -> None:
    asyncio.run(measure_system(report, None if is_rehearsal else "0,1,2", num_devices=3))
