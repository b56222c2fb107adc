"""What a contributor meets first: forms, the container, the citation, the policies."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
SCHEMAS = {
    "github-issue-forms": tuple(str(path.relative_to(ROOT)) for path in FORMS),
    "github-issue-config": (".github/ISSUE_TEMPLATE/config.yml",),
    "github-workflows": (".github/workflows/checks.yml", ".github/workflows/release.yml"),
    "dependabot": (".github/dependabot.yml",),
    "citation-file-format": ("CITATION.cff",),
    "compose-spec": ("compose.yaml", "compose.gpu.yaml"),
}
FIELDS = {"input", "textarea", "dropdown", "checkboxes"}


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def check_schema(schema: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Check files against a schema that the package check-jsonschema has; it asks no host for it."""
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [str(program), "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_a_form_asks_for_something(form: Path) -> None:
    """What the code host requires of a form: a name, a description, fields with an id and a label each."""
    given = load(str(form.relative_to(ROOT)))
    assert given["name"]
    assert given["description"]
    fields = [field for field in given["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= FIELDS
    assert all(field["attributes"]["label"] for field in fields)
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))
    assert any(field.get("validations", {}).get("required") for field in fields)


@pytest.mark.parametrize(("schema", "names"), SCHEMAS.items(), ids=SCHEMAS)
def test_a_file_for_the_code_host_has_its_schema(schema: str, names: tuple[str, ...]) -> None:
    """The published schema of each file, from a package that brings them; a misspelt key is refused."""
    assert check_schema(schema, *(ROOT / name for name in names)).returncode == 0


def test_a_misspelt_key_is_found(tmp_path: Path) -> None:
    """The test above can fail."""
    wrong = tmp_path / "fault.yml"
    wrong.write_text(FORMS[0].read_text().replace("validations:", "validation:"))
    assert "validation" in check_schema("github-issue-forms", wrong).stdout


def test_the_citation_has_the_projects_version_and_license() -> None:
    """Version and license are those of pyproject.toml; the date is that of the version in the changelog."""
    citation, project = load("CITATION.cff"), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert f"## [{citation['version']}] - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_names_the_paper_of_the_chart() -> None:
    """One identifier of the paper."""
    url = load("CITATION.cff")["preferred-citation"]["url"]
    assert url in load("helm/Chart.yaml")["sources"]
    assert url.endswith(load("CITATION.cff")["preferred-citation"]["identifiers"][0]["value"].removeprefix("arXiv:"))


def test_the_container_has_what_the_workflow_installs() -> None:
    """The container of contributors and that of the checks are one image with the same packages."""
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    container = json.loads(re.sub(r"^//.*$", "", text, flags=re.MULTILINE))
    check = load(".github/workflows/checks.yml")["jobs"]["check"]
    assert container["image"] == check["container"]
    (install,) = (step["run"] for step in check["steps"] if "apt-get" in step.get("run", ""))
    assert set(install.split()) <= set(container["onCreateCommand"].split())


def test_the_policy_names_documents_that_there_are() -> None:
    """Links of the two policies lead somewhere."""
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md"):
        for link in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text()):
            assert (ROOT / link).exists(), link
