"""The workflows of .github: actionlint accepts them, they have few rights, and their steps are make targets of ours."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yml"
ACTIONLINT = Path(sys.executable).parent / "actionlint"
PINNED = re.compile(
    r"^\s*- uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$|^\s+uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$"
)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def steps_of(path: Path) -> Iterator[dict[str, Any]]:
    for job in load(path)["jobs"].values():
        yield from job.get("steps", [])


def test_actionlint_accepts_the_workflows() -> None:
    """Syntax, expressions, contexts, inputs of known actions, scripts that strangers could inject into."""
    assert WORKFLOWS
    checked = subprocess.run([ACTIONLINT, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_actionlint_finds_a_fault(tmp_path: Path) -> None:
    """The test above can fail."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("github.ref }}", "github.no_such_name }}"))
    checked = subprocess.run([ACTIONLINT, wrong], capture_output=True, text=True, check=False)
    assert "no_such_name" in checked.stdout


def test_every_action_is_pinned_by_its_commit(workflow: Path) -> None:
    """With the release in a comment, which Dependabot reads and writes; a workflow of this repository needs no pin."""
    used = [line for line in workflow.read_text().splitlines() if re.match(r"\s*(- )?uses: ", line)]
    assert used
    assert [line for line in used if not PINNED.match(line) and "uses: ./.github/" not in line] == []


def test_a_workflow_has_no_right_that_a_job_does_not_name(workflow: Path) -> None:
    """No right by default; each job names its own, and none writes into the repository."""
    loaded = load(workflow)
    assert loaded["permissions"] == {}
    for name, job in loaded["jobs"].items():
        assert job["permissions"], name
        assert job["permissions"].get("contents", "read") == "read", name


def test_a_checkout_keeps_no_credentials(workflow: Path) -> None:
    """What runs later in the job cannot push."""
    checkouts = [step for step in steps_of(workflow) if "actions/checkout@" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_a_step_is_a_make_target(workflow: Path) -> None:
    """What a workflow runs, a developer can run; beside that it installs what make needs, and signs."""
    commands = [step["run"] for step in steps_of(workflow) if "run" in step]
    named = {word for command in commands for word in re.findall(r"\bmake (?:--silent )?([a-z][a-z-]*)", command)}
    named.discard("python")  # a package behind the package "make"
    assert named
    assert named <= TARGETS
    allowed = ("make ", "apt-get update", "cosign ", "mkdir dist")
    assert [command for command in commands if not command.startswith(allowed)] == []


def test_an_image_is_scanned_before_it_has_its_name() -> None:
    """Each platform of each image, by the name that the build printed; the job that joins the platforms comes after."""
    jobs = load(RELEASE)["jobs"]
    build, scan = jobs["image"]["steps"][-2:]
    assert build["run"].endswith('>>"$GITHUB_OUTPUT"')
    assert scan["uses"].startswith("aquasecurity/trivy-action@")
    assert scan["with"]["image-ref"] == f"${{{{ steps.{build['id']}.outputs.image }}}}"
    assert scan["with"]["exit-code"] == "1"
    assert jobs["images"]["needs"] == "image"
    built = {(each["image"], each["platform"]) for each in jobs["image"]["strategy"]["matrix"]["include"]}
    joined = jobs["images"]["strategy"]["matrix"]["include"]
    assert built == {(each["image"], platform) for each in joined for platform in each["platforms"].split()}
    assert ("slim", "arm64") in built


def test_a_container_has_what_its_actions_call(workflow: Path) -> None:
    """Runners have curl, Debian's image has not: cosign's action downloads with it."""
    for name, job in load(workflow)["jobs"].items():
        installs_cosign = any("cosign-installer@" in step.get("uses", "") for step in job.get("steps", []))
        if "container" in job and installs_cosign:
            assert any(" curl " in step.get("run", "") for step in job["steps"]), name


def run_make(command: list[str | Path]) -> tuple[list[str], int]:
    """Run a command that calls make, as if no other make had called these tests; return its lines and exit status."""
    own = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    ran = subprocess.run(
        command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return ran.stdout.splitlines(), ran.returncode


def list_checks() -> list[str]:
    listed = subprocess.run(["make", "--silent", "list-checks"], cwd=ROOT, capture_output=True, text=True, check=True)
    name, _, value = listed.stdout.strip().partition("=")
    assert name == "checks"
    checks: list[str] = json.loads(value)
    return checks


def test_the_checks_are_those_of_ci() -> None:
    """The workflow reads .ci/run: a job for each target, each is one of the Makefile and says its name first."""
    checks = list_checks()
    assert "test" in checks
    lines, _ = run_make(["make", "--dry-run", *checks])
    assert [line for line in lines if "== make" in line] == [f'echo "== make {check}" >&2' for check in checks]


def test_ci_runs_every_check_and_names_those_that_fail(tmp_path: Path) -> None:
    """Two at a time, and yet the lines of one check follow each other; the exit status tells of a failure."""
    checks = list_checks()
    recipes = [
        f"{name}:\n\t@echo {name} begins; sleep 0.1; echo {name} ends >&2; exit $(CODE_{name})"
        for name in ("environments", *checks)
    ]
    (tmp_path / "Makefile").write_text("\n".join([*recipes, f"CODE_{checks[1]} = 3", ""]))
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    lines, code = run_make(["bash", script])
    assert lines[:2] == ["environments begins", "environments ends"]
    for name in checks:
        at = lines.index(f"{name} begins")
        assert lines[at + 1] == f"{name} ends"
    assert [line.split("]")[0] for line in lines if "***" in line] == [f"make: *** [Makefile:6: {checks[1]}"]
    assert code == 2
