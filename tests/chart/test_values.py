"""The values: every one explained, every one known to the schema, and the README's table of them up to date."""

import json
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.pods import pod_of, pods
from tests.chart.rendering import CHART, ROOT, objects_with

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
SCRIPT = ROOT / "scripts" / "helm_values.py"
NOT_LISTED = {"global"}  # Helm gives it to every chart
NOT_LISTED |= {"initialDelaySeconds", "successThreshold"}  # of probes, where Kubernetes' defaults are good
NOT_LISTED |= {"password"}  # known to the schema so that it can be refused with what to do instead


def test_the_readme_has_the_tables_of_the_values(tmp_path: Path) -> None:
    """Changing a default or a comment without ``make protos`` fails here."""
    subprocess.run([sys.executable, SCRIPT, tmp_path], check=True)
    written = (tmp_path / "helm" / "README.md").read_text()
    assert (CHART / "README.md").read_text() == written
    for name in ("| `draft.model.uri` |", "| `coordinator.autoscaling.minReplicas` |", "| `extraObjects` |"):
        assert name in written


def test_draft_target_and_prm_have_one_schema() -> None:
    """The same values with the same defaults, but for the model."""
    roles = [deepcopy(VALUES[role]) for role in ("draft", "target", "prm")]
    assert [role["model"].pop("uri") for role in roles] == ["shipped://draft", "shipped://target", "shipped://prm"]
    assert roles[0] == roles[1] == roles[2]
    schemas = [SCHEMA["properties"][role] for role in ("draft", "target", "prm")]
    assert schemas[0] == schemas[1] == schemas[2]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference refers to."""
    while "$ref" in schema:
        target: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def differences(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield each key that only one of the two has, wherever the schema closes a map."""
    known = schema.get("properties", {})
    yield from (f"{path}{key}: not in the schema" for key in values.keys() - known.keys())
    yield from (f"{path}{key}: not in values.yaml" for key in known.keys() - values.keys() - NOT_LISTED)
    if schema.get("additionalProperties") is not False:
        yield f"{path}: the schema allows any key"
    for key in values.keys() & known.keys():
        below = resolved(known[key])
        if isinstance(values[key], dict) and "properties" in below:
            yield from differences(values[key], below, f"{path}{key}.")


def test_the_schema_and_the_values_have_the_same_keys() -> None:
    """At each of our levels, with no other key allowed: what is misspelt is refused, what exists is in values.yaml."""
    assert list(differences(VALUES, resolved(SCHEMA), "")) == []


FREE = {"affinity", "annotations", "commonLabels", "labels", "nodeSelector", "podAnnotations", "podLabels", "resources"}
FREE |= {"containerSecurityContext", "podSecurityContext", "securityContext"}
FREE |= {"alertLabels", "alerts"}  # labels; by the names of alerts, which the template checks


def open_maps(values: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """Yield the name of each map below which the schema does not look."""
    for key, value in values.items():
        below = resolved(schema["properties"][key])
        if isinstance(value, dict):
            if "properties" in below:
                yield from open_maps(value, below)
            else:
                yield key


def test_only_what_kubernetes_checks_is_left_open() -> None:
    """Labels, resources and the like, which are passed on as they are."""
    assert set(open_maps(VALUES, resolved(SCHEMA))) == FREE


@pytest.mark.parametrize("profile", sorted(CHART.glob("values-*.yaml")), ids=lambda path: str(path.stem))
def test_a_profile_says_what_it_is_for(profile: Path) -> None:
    """Its first line is a comment."""
    assert profile.read_text().startswith("# ")


def test_a_registry_for_all_stands_before_every_image() -> None:
    """But for those that name their own."""
    images = {"draft": {"image": {"repository": "registry.example:5000/gsi-engine"}}}
    found = pods(objects_with("cpu", {"global": {"imageRegistry": "mirror.example/gsi"}} | images))
    used = {container["image"] for pod in found for container in pod.containers}
    assert {image for image in used if not image.startswith("mirror.example/gsi/")} == {
        image for image in used if image.startswith("registry.example:5000/gsi-engine:")
    }
    assert len(used) > 2


def test_a_token_for_checkpoints_is_used_without_a_cache_too() -> None:
    """Where each pod downloads; a variable of one's own has precedence."""
    token = {"modelCache": {"download": {"tokenSecret": {"name": "hugging-face"}}}}
    own = [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "token"}}}]
    gated = {"draft": {"model": {"uri": "hf://a/b"}}, "prm": {"model": {"uri": "hf://c/d"}, "env": own}}
    found = objects_with("cpu", token | gated)
    sources = {
        role: [
            one["valueFrom"]["secretKeyRef"]["name"]
            for one in pod_of(found, role).container()["env"]
            if one["name"] == "HF_TOKEN"
        ]
        for role in ("draft", "target", "prm")
    }
    assert sources == {"draft": ["hugging-face"], "target": [], "prm": ["mine"]}
