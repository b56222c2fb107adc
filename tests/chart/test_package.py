"""What is published: a package with what Helm needs, and notes that say what to do next."""

import re
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, HELMS, NAMESPACE, PROFILES, RELEASE, ROOT, helm, template

PARTS = {
    "Chart.yaml",
    "values.yaml",
    "values.schema.json",
    "README.md",
    ".helmignore",
    "templates",
    "alerts",
    "board-links.json",
    "dashboards",
    "examples",
    "scripts",
    *(path.name for path in CHART.glob("values-*.yaml")),
}


@pytest.mark.parametrize("version", HELMS)
def test_the_package_holds_what_helm_needs_and_nothing_else(version: str, tmp_path: Path) -> None:
    """No tests, no drafts, no editor's copies; and it can be rendered as it is."""
    done = helm(version, "package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.split("/")[0] for name in names} == PARTS
    assert {Path(name).suffix for name in names} <= {".yaml", ".json", ".tpl", ".txt", ".md", ".sh", ""}
    rendered = helm(version, "template", RELEASE, package, "--namespace", NAMESPACE)
    assert rendered.returncode == 0, rendered.stderr


def test_the_chart_and_the_program_have_one_version() -> None:
    """The images' default tag is the chart's appVersion."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["appVersion"]}"\n' in project


def test_a_profile_that_names_a_tag_names_this_version() -> None:
    """A variant of the image has the version in its tag, so profiles are changed with the version."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    profiles = [yaml.safe_load(path.read_text()) for path in CHART.glob("values-*.yaml")]
    images = [part["image"] for values in profiles for part in values.values() if "image" in part]
    assert {image["tag"] for image in images} == {f"{version}-transformers"}


def test_the_production_values_of_the_readme_are_rendered() -> None:
    """On top of the paper's models, as it says there."""
    (example,) = re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    done = template("qwen2.5-math", yaml.safe_load(example), "4.3")
    assert done.returncode == 0, done.stderr


def notes(profile: str) -> str:
    """Return what Helm prints after an installation. Helm 3 shows it to none but who has a cluster."""
    arguments = ("install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", "--values", PROFILES[profile])
    done = helm("4.3", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_notes_say_what_to_do_next(profile: str) -> None:
    """How to look at it, how to push the first job, and how to ask the gateway with a key."""
    said = notes(profile)
    assert f"--namespace {NAMESPACE}" in said
    assert "gsi submit" in said or "helm test" in said
    assert "gsi keys create" in said
    assert "/v1/chat/completions" in said
    assert "<no value>" not in said


def test_the_notes_warn_of_a_queue_that_others_may_share() -> None:
    """On a Redis of somebody else a release of another namespace may have the same name."""
    warning = f"A release with a queue of the same name, such as one called {RELEASE} in another namespace"
    assert warning in notes("everything-else")
    assert warning not in notes("cpu")
