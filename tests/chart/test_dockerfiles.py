"""The Dockerfiles by hadolint, the linter of its field."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HADOLINT = ROOT / ".tools" / "bin" / "hadolint"


@pytest.mark.parametrize("name", ["slim.Dockerfile", "engine.Dockerfile"])
def test_hadolint_has_nothing_to_say(name: str) -> None:
    """Neither errors nor hints; what a Dockerfile has it pass over stands beside its reason there."""
    linted = subprocess.run(
        [HADOLINT, "--no-color", ROOT / "docker" / name], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    """A base without a version is a fault to it."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM debian\n")
    linted = subprocess.run([HADOLINT, dockerfile], capture_output=True, text=True, check=False)
    assert linted.returncode == 1
    assert "DL3006" in linted.stdout
