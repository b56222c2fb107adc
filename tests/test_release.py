"""What a release checks and runs, and the files that tell of changes."""

import json
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parents[1]
RELEASE = run_path(str(ROOT / "scripts" / "release.py"))
SBOM = run_path(str(ROOT / "scripts" / "check_sbom.py"))
VERSION: str = RELEASE["version"]()
TYPES = {"added", "changed", "deprecated", "removed", "fixed", "security"}


def check(tag: str) -> list[str]:
    found: list[str] = RELEASE["check"](tag)
    return found


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    """The sentence names both."""
    assert any("v9.9.9" in fault and VERSION in fault for fault in check("v9.9.9"))
    assert not any("the tag is" in fault for fault in check(f"v{VERSION}"))


def test_the_chart_and_the_code_have_one_version() -> None:
    """A release finds no other version in the chart."""
    assert not any("Chart.yaml" in fault for fault in check(f"v{VERSION}"))


@pytest.mark.parametrize("image", RELEASE["IMAGES"])
def test_an_image_of_each_lock_is_built(image: str) -> None:
    """The command names a Dockerfile and a lock that there are, arguments that the Dockerfile has, and the version."""
    command = RELEASE["build_command"](image, "amd64", "registry.example/gsi", "", "abc")
    file = ROOT / command[command.index("--file") + 1]
    assert (ROOT / "docker" / "locks" / f"{image}.txt").is_file()
    given = [word for before, word in pairwise(command) if before == "--build-arg"]
    assert f"VERSION={VERSION}" in given
    declared = {line.partition("=")[0] for line in file.read_text().splitlines()}
    assert {f"ARG {word.partition('=')[0]}" for word in given} <= declared


def test_a_list_without_a_package_or_without_its_hash_is_found() -> None:
    """What `make sbom` compares: the list is of this version and has each package of the lock, with a hash."""
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    hashed = {"externalReferences": [{"type": "distribution", "hashes": [{"alg": "SHA-256", "content": "00"}]}]}
    listed = {
        "bomFormat": "CycloneDX",
        "metadata": {"component": {"name": name, "version": VERSION}},
        "components": [{"name": "redis", "version": "6.2.0"} | hashed, {"name": "rich", "version": "14.0.0"}],
    }
    lock = "".join(f"{each} \\\n    --hash=sha256:00\n" for each in ("redis==6.2.0", "rich==14.0.0", "typer==0.16.0"))
    found = SBOM["find_faults"](lock, json.dumps(listed))
    assert found == ["rich 14.0.0 is not in it with a hash", "typer 0.16.0 is not in it with a hash"]
    listed["metadata"] = {}
    assert SBOM["find_faults"](lock, json.dumps(listed))[0] == "it is of None None"


def test_a_tag_of_an_image_stands_for_all_its_platforms() -> None:
    """People name an image without its platform."""
    joined, asked = RELEASE["manifest_commands"]("slim", "registry.example/gsi", ["amd64", "arm64"])
    tag = f"registry.example/gsi/gsi-slim:{VERSION}"
    assert joined[-2:] == [f"{tag}-amd64", f"{tag}-arm64"]
    assert joined[joined.index("--tag") + 1] == tag
    assert tag in asked


def test_every_file_of_changes_says_what_kind_of_change_it_is() -> None:
    """NAME.TYPE.md, with a text that is no list and no heading."""
    files = [path for path in (ROOT / "changes").iterdir() if path.name not in {"README.md", "template.md.jinja"}]
    assert [path.name for path in files if path.suffix != ".md" or path.stem.rpartition(".")[2] not in TYPES] == []
    assert [path.name for path in files if path.read_text()[:1] in {"", "-", "*", "#"}] == []


def test_a_change_comes_under_its_kind_and_version(tmp_path: Path) -> None:
    """As `make changelog ARGS=--write` does it; what stood under "Unreleased" comes under the version too."""
    (tmp_path / "changes").mkdir()
    for name in ("pyproject.toml", "changes/template.md.jinja"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n- Earlier.\n\n## [0.1.0] - 2026-11-22\n")
    (tmp_path / "changes" / "a-name.fixed.md").write_text("A fault is gone.\n")
    program = str(Path(sys.executable).parent / "towncrier")
    command = [program, "build", "--version", "0.2.0", "--date", "2027-01-01", "--keep"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    written = (tmp_path / "CHANGELOG.md").read_text()
    assert "## [Unreleased]\n\n## [0.2.0] - 2027-01-01\n\n### Fixed\n\n- A fault is gone.\n" in written
    assert written.endswith("- Earlier.\n\n## [0.1.0] - 2026-11-22\n")
