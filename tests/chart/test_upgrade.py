"""What an upgrade finds running stays: the number of pods, the volumes, the one Redis."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chart.api_server import upgraded
from tests.chart.immutable import CHANGEABLE, FIELDS, immutable_fields, is_hook
from tests.chart.pods import pod_of, pods
from tests.chart.rendering import PROFILES, Object, name_of, objects, objects_with, of_kind, parsed

# What the chart at commit a70e0b5 installed: by profile and object, the fields that cannot change. Jobs are left out:
# their names have a hash of their template.
RELEASED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "released.json").read_text())
SCALED = {"autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 8}}
TWO = {"draft": {"replicas": 2}}


def deployment(found: list[Object], component: str) -> Object:
    return pod_of(found, component).owner


def running_with(profile: str, component: str, replicas: int) -> list[Object]:
    """Return a profile's objects, of which one Deployment has been scaled by hand or by a scaler."""
    found = objects(profile)
    deployment(found, component)["spec"]["replicas"] = replicas
    return found


@pytest.mark.parametrize("component", ["draft", "coordinator", "gateway"])
def test_turning_autoscaling_on_keeps_the_pods_that_run(component: str, tmp_path: Path) -> None:
    """Without a number in the manifest Kubernetes would take 1, and two of three models would load again."""
    found = parsed(upgraded(running_with("cpu", component, 3), "cpu", {component: SCALED}, tmp_path))
    assert deployment(found, component)["spec"]["replicas"] == 3


@pytest.mark.parametrize("component", ["draft", "coordinator", "gateway"])
def test_without_a_cluster_a_scaler_begins_at_its_minimum(component: str) -> None:
    """As at an installation."""
    assert deployment(objects_with("cpu", {component: SCALED}), component)["spec"]["replicas"] == 1


def strategies(found: list[Object]) -> dict[str, Any]:
    return {role: deployment(found, role)["spec"]["strategy"] for role in ("draft", "target")}


def test_several_pods_with_gpus_are_replaced_one_after_another(tmp_path: Path) -> None:
    """A new image takes down one of two, and the only pod of another role."""
    one_by_one = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert strategies(objects_with("qwen2.5-math", TWO)) == {"draft": one_by_one, "target": {"type": "Recreate"}}
    new_image = TWO | {"target": {"image": {"tag": "0.2.0"}}}
    found = parsed(upgraded(objects("qwen2.5-math"), "qwen2.5-math", new_image, tmp_path))
    assert strategies(found)["draft"] == one_by_one


def test_another_model_replaces_all_pods_at_once(tmp_path: Path) -> None:
    """Coordinators use one model at a time; pods of the old one would idle until the last of them is gone."""
    other = {"draft": {"replicas": 2, "model": {"uri": "hf://Qwen/Qwen2.5-Math-1.5B"}}}
    found = parsed(upgraded(objects("qwen2.5-math"), "qwen2.5-math", other, tmp_path))
    assert strategies(found)["draft"] == {"type": "Recreate"}


def test_a_renamed_release_is_refused_and_has_no_second_redis(tmp_path: Path) -> None:
    """The sentence names both, and where the jobs are; under the old names an upgrade goes on."""
    refused = upgraded(objects("cpu"), "cpu", {"nameOverride": "speculation"}, tmp_path)
    assert "nameOverride" in refused
    assert "gsi-redis, which has the jobs" in refused
    assert parsed(upgraded(objects("cpu"), "cpu", {}, tmp_path))


CACHE = {"modelCache": {"enabled": True}, "draft": {"model": {"uri": "hf://a/b"}}}


def claim(values: dict[str, Any]) -> Object:
    (found,) = of_kind(objects_with("cpu", CACHE | {"modelCache": {"enabled": True} | values}), "PersistentVolumeClaim")
    return found


def test_the_default_claim_binds_and_its_pods_are_on_one_node() -> None:
    """Every cluster has ReadWriteOnce. Models and downloads attract each other: no pod waits for a volume elsewhere."""
    assert claim({})["spec"]["accessModes"] == ["ReadWriteOnce"]
    together = [
        pod for pod in pods(objects_with("cpu", CACHE)) if pod.component in {"draft", "target", "prm", "download"}
    ]
    assert len(together) == 4
    for pod in together:
        (term,) = pod.spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        selector = term["labelSelector"]["matchLabels"]
        assert all(selector.items() <= other.labels.items() for other in together)
        assert not selector.items() <= pod_of(objects_with("cpu", CACHE), "coordinator").labels.items()


def test_a_volume_for_many_nodes_ties_no_pod_to_another() -> None:
    """Nor does a claim of one's own."""
    many = {"accessModes": ["ReadWriteMany"], "storageClassName": "shared"}
    for values in (many, {"existingClaim": "checkpoints"}):
        found = objects_with("cpu", CACHE | {"modelCache": {"enabled": True} | values})
        assert "affinity" not in pod_of(found, "draft").spec


def test_another_kind_of_volume_is_another_claim() -> None:
    """A claim's access modes and class are immutable: the upgrade would fail, and the reinstallation as well."""
    names = {
        claim(values)["metadata"]["name"]
        for values in (
            {},
            {"storageClassName": "fast"},
            {"accessModes": ["ReadWriteMany"], "storageClassName": "fast"},
        )
    }
    assert len(names) == 3
    assert claim({"size": "300Gi"})["metadata"]["name"] == claim({})["metadata"]["name"]


def test_coordinators_and_gateways_are_spread_over_nodes() -> None:
    """Preferably, so that one node is enough; an affinity of one's own replaces it."""
    for component in ("coordinator", "gateway"):
        affinity = pod_of(objects("cpu"), component).spec["affinity"]["podAntiAffinity"]
        (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        assert preferred["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
        selector = preferred["podAffinityTerm"]["labelSelector"]["matchLabels"]
        assert selector.items() <= pod_of(objects("cpu"), component).labels.items()
        own: dict[str, Any] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
        assert pod_of(objects_with("cpu", {component: {"affinity": own}}), component).spec["affinity"] == own


@pytest.mark.parametrize("profile", RELEASED)
def test_an_earlier_version_can_be_upgraded(profile: str) -> None:
    """An object that keeps its name keeps what cannot be changed. Else the API server refuses the whole upgrade."""
    now, before = immutable_fields(objects(profile)), RELEASED[profile]
    same = now.keys() & before.keys()
    assert {"Deployment/gsi-coordinator", "StatefulSet/gsi-redis", "Service/gsi-target"} <= same
    assert {name: now[name] for name in same} == {name: before[name] for name in same}


@pytest.mark.parametrize("profile", PROFILES)
def test_what_cannot_be_changed_is_known_of_every_kind(profile: str) -> None:
    """A kind that the chart did not have yet is looked up, and written into one of the two lists."""
    assert {one["kind"] for one in objects(profile) if not is_hook(one)} <= FIELDS.keys() | CHANGEABLE


@pytest.mark.parametrize(
    ("name", "field", "other"),
    [
        ("Deployment/gsi-coordinator", "selector", {"matchLabels": {"app": "gsi"}}),
        ("StatefulSet/gsi-redis", "selector", {"matchLabels": {"app": "gsi"}}),
        ("StatefulSet/gsi-redis", "serviceName", "redis"),
        ("StatefulSet/gsi-redis", "podManagementPolicy", "Parallel"),
        ("StatefulSet/gsi-redis", "volumeClaimTemplates", []),
        ("StatefulSet/gsi-redis", "revisionHistoryLimit", 10),
        ("Service/gsi-target", "clusterIP", "10.0.0.1"),
    ],
)
def test_a_change_of_such_a_field_is_found(name: str, field: str, other: Any) -> None:
    """Each of those that an object of the earlier version has."""
    found = objects("cpu")
    (one,) = (one for one in found if name_of(one) == name)
    one["spec"][field] = other
    now, before = immutable_fields(found), RELEASED["cpu"]
    assert {same for same in before if now[same] != before[same]} == {name}


def test_a_field_that_cannot_be_changed_is_found() -> None:
    """A claim of another access mode under its old name, as an earlier version would have sent it."""
    (found,) = of_kind(objects("qwen2.5-math"), "PersistentVolumeClaim")
    found["metadata"]["name"] = "gsi-models"
    before = RELEASED["qwen2.5-math"]["PersistentVolumeClaim/gsi-models"]
    assert immutable_fields([found])["PersistentVolumeClaim/gsi-models"] != before
