"""The parts of a run, each with its time limit, and how one runs: as a process that writes its figures to a file."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOTAL_SECONDS = 25 * 60.0
STOP_SECONDS = 20.0  # for a part to stop its engines when its time is over
LAST_LINES = 15  # of the log of a part that failed


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the run: a module with ``measure(report, is_rehearsal)``. ``num_gpus``: the least it needs."""

    name: str
    module: str
    limit_seconds: float
    num_gpus: int = 1


# A start of three engines on one GPU, one after the other, is the longest thing here: a minute or more for each.
PARTS = (
    Part("machine", "benchmarks.gpu.machine", 60.0),
    Part("tests", "benchmarks.gpu.suite", 480.0),
    Part("one GPU", "benchmarks.gpu.one_gpu", 480.0),
    Part("three GPUs", "benchmarks.gpu.three_gpus", 420.0, num_gpus=3),
)
assert sum(part.limit_seconds for part in PARTS) <= TOTAL_SECONDS - len(PARTS) * STOP_SECONDS / 2


class Report:
    """The figures of a part, by name. Each is in the file as soon as it is put."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._figures: dict[str, Any] = {}

    def put(self, name: str, figure: Any) -> None:
        self._figures[name] = figure
        whole = self._file.with_suffix(".new")
        whole.write_text(json.dumps(self._figures))
        whole.replace(self._file)  # the reader never sees half a file


def run_part(part: Part, limit_seconds: float, *, is_rehearsal: bool) -> dict[str, Any]:
    """Run a part; return its state, seconds, figures, and the end of its log unless it is done."""
    with tempfile.TemporaryDirectory(prefix="gsi-gpu-") as folder:
        file, log = Path(folder) / "figures.json", Path(folder) / "log"
        command = [sys.executable, "-m", "benchmarks.gpu.part", part.module, str(file)]
        started = time.monotonic()
        state = _run(command + (["--rehearse"] if is_rehearsal else []), log, limit_seconds)
        return {
            "state": state,
            "seconds": time.monotonic() - started,
            "limit_seconds": limit_seconds,
            "figures": _read(file),
            "log": [] if state == "done" else log.read_text(errors="replace").splitlines()[-LAST_LINES:],
        }


def _run(command: list[str], log: Path, limit_seconds: float) -> str:
    """Run a command in a process group of its own, which ends with its time. Return how it ended."""
    with log.open("wb") as output:
        own = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, env=own, stdout=output, stderr=output, start_new_session=True)
        try:
            return "done" if process.wait(limit_seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of a part: it first gets time to stop its engines."""
    for signum in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, signum)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _read(file: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return figures
