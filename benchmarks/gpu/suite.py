"""The engines' tests on this machine: the contract of every engine, PRM families, chunked prefill, speculation, V2.

Every test that passes on a CPU should pass here. Tests that start several services at once are left out: they take no
share of a GPU.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.parts import Report

ROOT = Path(__file__).parents[2]
TESTS = ("engine", "reward", "chunked_prefill", "speculative")
REHEARSED = ("chunked_prefill",)  # the others take minutes on a CPU, and `make test-vllm` runs them there
SHARE = "0.25"  # of the GPU, for each engine: a few tests have two engines at once
RAN_ALL = (0, 1)  # pytest's exit codes: all passed, some failed
TEST_SECONDS = 300  # a first start on a GPU compiles kernels


def measure(report: Report, *, is_rehearsal: bool) -> None:
    folder = ROOT / "tests" / "vllm"
    files = [folder / f"test_vllm_{name}.py" for name in (REHEARSED if is_rehearsal else TESTS)]
    files += [] if is_rehearsal else sorted(path for path in folder.rglob("test_*.py") if "v2" in path.name)
    ran: dict[str, dict[str, Any]] = {}
    for file in files:  # each in a process of its own: what a crash takes down is one file
        ran[file.stem] = run_file(file)
        report.put(file.stem, ran[file.stem])
    if bad := [name for name, result in ran.items() if "error" in result or result["failed"]]:
        sys.exit(f"tests failed in {', '.join(bad)}")  # the part counts as failed, and keeps these figures


def run_file(file: Path) -> dict[str, Any]:
    """Run a file of tests; return how many passed and which failed, and what pytest said if it did not run them all."""
    with tempfile.TemporaryDirectory(prefix="gsi-gpu-") as folder:
        results = Path(folder) / "results.xml"
        options = ["-q", "-p", "no:cacheprovider", "-o", f"timeout={TEST_SECONDS}", f"--junitxml={results}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, str(file)],
            cwd=ROOT,
            env=os.environ | {"GSI_TEST_GPU_SHARE": SHARE},
            capture_output=True,
            text=True,
            check=False,
        )
        summary = _summarise(ElementTree.parse(results).getroot()) if results.exists() else {}
        ran_all = done.returncode in RAN_ALL
        return summary | ({} if ran_all else {"error": (done.stdout + done.stderr)[-2000:]})


def _summarise(tree: ElementTree.Element) -> dict[str, Any]:
    cases = list(tree.iter("testcase"))
    skipped = sum(case.find("skipped") is not None for case in cases)
    failed = {f"{case.get('name')}": text for case in cases for text in _failures(case)}
    return {"passed": len(cases) - len(failed) - skipped, "failed": failed, "skipped": skipped}


def _failures(case: ElementTree.Element) -> Iterator[str]:
    """Yield the first line of what went wrong in a test, if something did."""
    found = [part for kind in ("failure", "error") for part in case.findall(kind)]
    yield from (str(part.get("message")).partition("\n")[0][:300] for part in found[:1])
