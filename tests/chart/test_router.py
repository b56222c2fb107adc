"""The router of method ``arbitrage``: a file of the coordinators, from the values or from a ConfigMap that is there."""

from pathlib import Path
from typing import Any

import pytest

from gsi.router_file import read_router
from tests.chart.pods import Pod, pod_of
from tests.chart.rendering import HELMS, PROFILES, Object, objects, objects_with, of_kind, template

SHIPPED = Path(__file__).parents[2] / "models" / "router" / "router.json"


def variable(pod: Pod) -> str | None:
    values = {one["name"]: one.get("value") for one in pod.container()["env"]}
    found: str | None = values.get("GSI_COORDINATOR_ROUTER")
    return found


def mounted_map(pod: Pod) -> str:
    """Return the ConfigMap in which the coordinator's variable names a file; the mount is read-only."""
    path = Path(variable(pod) or "")
    (mount,) = (one for one in pod.container()["volumeMounts"] if one["mountPath"] == str(path.parent))
    assert mount["readOnly"] is True
    (volume,) = (one for one in pod.spec["volumes"] if one["name"] == mount["name"])
    assert volume["configMap"]["items"] == [{"key": "router.json", "path": path.name}]
    name: str = volume["configMap"]["name"]
    return name


def maps(found: list[Object]) -> dict[str, Any]:
    return {one["metadata"]["name"]: one["data"] for one in of_kind(found, "ConfigMap")}


@pytest.mark.parametrize("version", HELMS)
def test_a_router_of_the_values_is_the_coordinators_file(tmp_path: Path, version: str) -> None:
    """To the byte: results name it by the digest of the file that `gsi router train` wrote, which the pods show too."""
    found = objects_with("cpu", {"coordinator": {"router": {"json": SHIPPED.read_text()}}}, version)
    pod = pod_of(found, "coordinator")
    path = tmp_path / "router.json"
    path.write_text(maps(found)[mounted_map(pod)]["router.json"])
    assert read_router(path) == read_router(SHIPPED)
    assert pod.metadata["annotations"]["gsi/router"] == read_router(SHIPPED).fingerprint


def test_another_router_replaces_the_pods() -> None:
    """A coordinator reads its router when it starts. Annotations of one's own stay."""
    annotations = {"podAnnotations": {"example.com/note": "a note"}}
    changed = {"router": {"json": SHIPPED.read_text()}, **annotations}
    one = pod_of(objects("everything"), "coordinator")
    other = pod_of(objects_with("everything", {"coordinator": changed}), "coordinator")
    assert one.metadata["annotations"]["gsi/router"] != other.metadata["annotations"]["gsi/router"]
    assert other.metadata["annotations"]["example.com/note"] == "a note"


@pytest.mark.parametrize("version", HELMS)
def test_a_map_that_is_there_is_mounted(version: str) -> None:
    """The chart makes none."""
    found = objects("everything-else", version)
    assert mounted_map(pod_of(found, "coordinator")) == "router-of-math"
    assert [data for data in maps(found).values() if "router.json" in data] == []


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"everything", "everything-else"}))
def test_without_a_router_there_is_nothing_of_it(profile: str) -> None:
    """No variable, no mount, no map."""
    found = objects(profile)
    pod = pod_of(found, "coordinator")
    assert variable(pod) is None
    assert "router" not in {one["name"] for one in pod.spec["volumes"]}
    assert [data for data in maps(found).values() if "router.json" in data] == []


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("text", ["router/router.json", "{}", "[1]", '{"weights": '])
def test_what_is_no_router_is_refused(version: str, text: str) -> None:
    """Such as a path where the file's content belongs; the message says how it is given."""
    done = template("cpu", {"coordinator": {"router": {"json": text}}}, version)
    assert done.returncode != 0
    assert "coordinator.router.json: not the file of a router" in done.stderr
    assert "--set-file coordinator.router.json=FILE" in done.stderr


@pytest.mark.parametrize("version", HELMS)
def test_two_routers_are_refused(version: str) -> None:
    """Nobody could say which one decides."""
    both = {"json": SHIPPED.read_text(), "configMap": "mine"}
    done = template("cpu", {"coordinator": {"router": both}}, version)
    assert done.returncode != 0
    assert "coordinator.router: json and configMap are given; allowed: one of them" in done.stderr
