"""What is generated and committed is what its sources generate."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parents[1]
VERSIONS = run_path(str(ROOT / "scripts" / "versions.py"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # of this tree, wherever the package is installed from
    command = [sys.executable, str(ROOT / "scripts" / "generate.py"), str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    return folder


def test_the_committed_stubs_are_those_of_the_protos(generated: Path) -> None:
    """Editing a proto without ``make protos`` fails here."""
    fresh = {path.name: path.read_text() for path in (generated / "gsi" / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "gsi" / "v1").glob("*_pb2*")}
    assert committed == fresh


@pytest.mark.parametrize("what", ["job", "step", "result"])
def test_a_published_schema_is_that_of_the_code(generated: Path, what: str) -> None:
    """Changing what a job, a step or a result may say without ``make protos`` fails here."""
    name = Path("docs") / f"{what}.schema.json"
    assert (ROOT / name).read_text() == (generated / name).read_text()


def test_the_tables_of_metrics_are_those_of_the_code(generated: Path) -> None:
    """Changing what a series means, its labels or their values without ``make protos`` fails here."""
    name = Path("docs") / "metrics.md"
    assert (ROOT / name).read_text() == (generated / name).read_text()


def test_the_tables_of_settings_are_those_of_the_code(generated: Path) -> None:
    """Changing what a setting means, its default or its range without ``make protos`` fails here."""
    name = Path("docs") / "settings.md"
    assert (ROOT / name).read_text() == (generated / name).read_text()


def test_the_reference_of_the_sdk_is_that_of_the_code(generated: Path) -> None:
    """Changing a signature or a docstring of the SDK without ``make protos`` fails here."""
    name = Path("docs") / "sdk.md"
    assert (ROOT / name).read_text() == (generated / name).read_text()


def test_the_version_comes_from_one_place(generated: Path) -> None:
    """Changing pyproject.toml without ``make protos`` fails here; no other file has a version of its own."""
    files = VERSIONS["FILES"]
    assert [name for name in files if (ROOT / name).read_text() != (generated / name).read_text()] == []
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    next_ones = {name: VERSIONS["name_version"]((ROOT / name).read_text(), "98.7.6") for name in files}
    assert [name for name, text in next_ones.items() if "98.7.6" not in text or version in text] == []
    assert "valkey/valkey:98.7.6" not in next_ones["compose.yaml"]


def test_the_badges_say_what_is_so(generated: Path) -> None:
    """Another version, license or Python without ``make protos`` fails here."""
    fresh = {path.name: path.read_text() for path in (generated / "docs" / "pictures" / "badges").iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "docs" / "pictures" / "badges").iterdir()}
    assert committed == fresh
    assert {"license.svg", "python.svg", "types.svg", "version.svg"} == set(committed)
