"""The three models on the first GPU, each with a share of its memory."""

import asyncio

from benchmarks.gpu.parts import Report
from benchmarks.gpu.system import measure_system


def measure(report: Report, *, is_rehearsal: bool) -> None:
    asyncio.run(measure_system(report, None if is_rehearsal else "0", num_devices=1))
