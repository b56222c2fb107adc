"""Every example of the guides renders, a cluster would take it, and its guide says the command that it is for."""

from typing import Any

import pytest
import yaml

from tests.chart import security
from tests.chart.examples import (
    APPLICATION,
    FOLDER,
    GUIDES,
    blocks_of,
    command_of,
    commands_in,
    example,
    examples,
    is_object,
)
from tests.chart.pods import pods
from tests.chart.rendering import CHART, HELMS
from tests.chart.schemas import KUBERNETES, faults

PAGES = sorted(path.name for path in GUIDES.glob("*.md") if path.name != "README.md")


def guide_of(name: str) -> str:
    """Return the page that has an example's command."""
    (page,) = (page for page in PAGES if command_of(name) in commands_in((GUIDES / page).read_text(encoding="utf-8")))
    return page


@pytest.mark.parametrize("name", examples())
def test_a_guide_has_the_command_of_an_example(name: str) -> None:
    """The example names the page, and both have one command. It builds on a profile or another example."""
    assert f"docs/deploy/{guide_of(name)}" in examples()[name].read_text(encoding="utf-8")
    assert all(path.is_file() for path in command_of(name).values)
    assert len(command_of(name).values) > 1


@pytest.mark.parametrize("name", examples())
def test_both_helms_make_the_same_of_an_example(name: str) -> None:
    """And a second rendering is the first."""
    old, new = (example(name, version) for version in HELMS)
    assert old == new == command_of(name).render()


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("name", examples())
def test_a_cluster_takes_every_object_of_an_example(name: str, kubernetes: str) -> None:
    """By the schemas of the oldest and of a recent Kubernetes, and of the operators."""
    assert [fault for one in example(name) for fault in faults(one, kubernetes)] == []


@pytest.mark.parametrize("name", sorted(set(examples()) - {"openshift"}))
def test_the_pods_of_an_example_keep_the_rules(name: str) -> None:
    """An example gives up none of the restrictions; OpenShift's is held to them in test_guides.py."""
    assert [fault for pod in pods(example(name)) for fault in security.faults(pod)] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_guide_are_values_or_objects(page: str) -> None:
    """Values go with each example of the page; objects are such as a cluster takes."""
    commands = commands_in((GUIDES / page).read_text(encoding="utf-8"))
    assert commands
    for block in blocks_of(page):
        if is_object(block):
            assert faults(yaml.safe_load(block), KUBERNETES[0]) == []
        else:
            assert [fault for one in commands[0].render(more=block) for fault in faults(one, KUBERNETES[0])] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_a_guide_promises_was_not_run_on_a_cluster(page: str) -> None:
    """It says so."""
    assert "nobody has run it on a cluster" in " ".join((GUIDES / page).read_text(encoding="utf-8").split())


def test_the_list_of_guides_has_every_page_and_every_example() -> None:
    """The chart's README and the list lead there."""
    listed = (GUIDES / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES if f"({page})" not in listed] == []
    assert "(../docs/deploy/README.md)" in (CHART / "README.md").read_text(encoding="utf-8")
    named: Any = {path.name for path in FOLDER.glob("*.yaml")}
    assert named == {f"{name}.yaml" for name in examples()} | {APPLICATION}
    assert [name for name in named if f"helm/examples/{name}" not in listed] == []
