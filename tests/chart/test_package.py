"""What is published: a package with what Helm needs, and notes that say what to do next."""

import tarfile
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, HELMS, NAMESPACE, PROFILES, RELEASE, ROOT, helm

PARTS = {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", ".helmignore", "templates", "alerts"}
PARTS |= {"dashboards", *(path.name for path in CHART.glob("values-*.yaml"))}


@pytest.mark.parametrize("version", HELMS)
def test_the_package_holds_what_helm_needs_and_nothing_else(version: str, tmp_path: Path) -> None:
    """No tests, no drafts, no editor's copies; and it can be rendered as it is."""
    done = helm(version, "package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.split("/")[0] for name in names} == PARTS
    assert {Path(name).suffix for name in names} <= {".yaml", ".json", ".tpl", ".txt", ".md", ""}
    rendered = helm(version, "template", RELEASE, package, "--namespace", NAMESPACE)
    assert rendered.returncode == 0, rendered.stderr


def test_the_chart_and_the_program_have_one_version() -> None:
    """The images' default tag is the chart's appVersion."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["appVersion"]}"\n' in project


@pytest.mark.parametrize("profile", PROFILES)
def test_the_notes_say_what_to_do_next(profile: str) -> None:
    """How to look at it and how to push the first job. Helm 3 shows notes to none but who has a cluster."""
    arguments = ("install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", "--values", PROFILES[profile])
    done = helm("4.3", *arguments)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("\nNOTES:\n")[2]
    assert f"--namespace {NAMESPACE}" in notes or f"-n {NAMESPACE}" in notes
    assert "gsi submit" in notes or "helm test" in notes
    assert "<no value>" not in notes
