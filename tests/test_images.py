"""What can be said of the images without building them (``make image`` builds and runs one)."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS_OF_LOCK = {
    "slim": {"coordinator", "gateway", "s3", "tracing"},
    "engine-transformers": {"tracing", "transformers"},
    "engine-vllm-cpu": {"tracing", "vllm-cpu"},
    "engine-vllm": {"tracing", "vllm"},
}

pytestmark = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions with their arguments, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name.upper(), " ".join(arguments.split())) for name, arguments in lines]


def test_bases_are_chosen_and_pinned(path: Path) -> None:
    """One argument names the base, with a version; everything else is built from it, or from nothing."""
    found = instructions(path)
    (base,) = (value.removeprefix("BASE_IMAGE=") for name, value in found if value.startswith("BASE_IMAGE="))
    assert re.fullmatch(r"[a-z./-]+:\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", base)
    stages = {"scratch", "${BASE_IMAGE}"}
    for name, arguments in found:
        if name == "FROM":
            source, _, stage = arguments.partition(" AS ")
            assert source in stages or any(
                re.fullmatch(source.replace("${VARIANT}", ".+"), known) for known in stages
            ), source
            stages.add(stage)


def test_nothing_is_downloaded_but_locked_packages(path: Path) -> None:
    """No ADD, which fetches addresses; pip takes what has a hash in a lock, or a file that was just built."""
    found = instructions(path)
    assert "ADD" not in {name for name, _ in found}
    installs = [part for name, line in found if name == "RUN" for part in line.split("&&") if " pip " in part]
    assert len(installs) >= 3
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes" in install or "--no-index" in install, install


def test_an_image_runs_as_nobody_in_particular(path: Path) -> None:
    """The last stage has the chart's user, our environment first in PATH, and ends on SIGTERM."""
    found = instructions(path)
    last = found[max(number for number, (name, _) in enumerate(found) if name == "FROM") :]
    said = {name: arguments for name, arguments in last if name in {"USER", "WORKDIR", "STOPSIGNAL", "CMD"}}
    assert said["USER"] == "10001:10001"
    assert said["WORKDIR"] == "/app"
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert said["CMD"].startswith('["gsi", "serve", ')
    (environment,) = (arguments for name, arguments in last if name == "ENV")
    assert environment.startswith("PATH=/opt/venv/bin:")


def test_an_image_has_the_projects_version(path: Path) -> None:
    """The label is written from an argument whose default is pyproject's version."""
    assert ("ARG", f"VERSION={PROJECT['version']}") in instructions(path)


def test_what_is_copied_is_sent_to_the_builder(path: Path) -> None:
    """.dockerignore lets through each file and folder that is copied, and each is there."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name, arguments in instructions(path):
        if name == "COPY" and not arguments.startswith("--from="):
            for source in arguments.split()[:-1]:
                assert any(source == one or source.startswith(f"{one}/") for one in allowed), source
                assert list(ROOT.glob(source.replace("${VARIANT}", "*"))), source


def test_locks_fit_what_the_project_asks_for(path: Path) -> None:
    """Every requirement of the image's extras is locked to a version that it allows, every one with a hash.

    What is left out on purpose: PyTorch's packages for pictures and sound, which exist for GPUs only.
    """
    image = path.name.removesuffix(".Dockerfile")
    names = [name for name in EXTRAS_OF_LOCK if name.split("-")[0] == image]
    assert names
    for name in names:
        locked = read_lock(name)
        for requirement in [*map(Requirement, PROJECT["dependencies"]), *requirements_of(EXTRAS_OF_LOCK[name])]:
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{name}: {requirement} is locked to {version}: make locks"
        if name != "engine-vllm":
            assert not {"torchvision", "torchaudio", "torchcodec"} & set(locked)


def requirements_of(extras: set[str]) -> list[Requirement]:
    """Return what extras ask for; an extra may name others of this project."""
    asked = [Requirement(each) for extra in extras for each in PROJECT["optional-dependencies"][extra]]
    others = set().union(*(each.extras for each in asked if each.name == PROJECT["name"]))
    return [each for each in asked if each.name != PROJECT["name"]] + (requirements_of(others) if others else [])


def read_lock(name: str) -> dict[str, Version]:
    """Return the locked versions by name. Every entry has a hash."""
    text = (ROOT / "docker" / "locks" / f"{name}.txt").read_text()
    entries = re.findall(r"^([\w.-]+)==([\w.+]+)(.*(?:\n .*)+)", text, flags=re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\w", text, flags=re.MULTILINE))
    assert all("--hash=sha256:" in rest for _, _, rest in entries)
    return {canonicalize_name(package): Version(version) for package, version, _ in entries}
