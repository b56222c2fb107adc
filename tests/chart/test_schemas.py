"""Every object of every profile is one that a cluster would take."""

import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.chart.rendering import CHART, HELMS, PROFILES, Object, helm, objects
from tests.chart.schemas import KUBERNETES, faults


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_passes_helms_strict_lint(profile: str, version: str) -> None:
    """With no warning left."""
    done = helm(version, "lint", "--strict", CHART, "--values", PROFILES[profile])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_both_helms_make_the_same_objects(profile: str) -> None:
    """In the same order; the chart asks nothing that they answer differently, and nothing is random."""
    old, new = (objects(profile, version) for version in HELMS)
    assert old == new
    assert old


@pytest.mark.parametrize("helm_version", HELMS)
def test_it_renders_for_the_clusters_that_it_is_for(helm_version: str) -> None:
    """The same objects for the oldest and for the newest; an older one is refused by name."""

    def rendered(kubernetes: str) -> "subprocess.CompletedProcess[str]":
        return helm(helm_version, "template", "gsi", CHART, "--kube-version", kubernetes)

    oldest, newest = (rendered(f"{version}.0") for version in KUBERNETES)
    assert oldest.returncode == newest.returncode == 0
    assert oldest.stdout == newest.stdout
    assert "1.28.0" in rendered("1.28.0").stderr


def test_the_versions_are_the_oldest_and_the_newest() -> None:
    """Of the chart, and of the schemas: newer schemas come with a newer package, and this line with them."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"
    assert kubernetes_validate.utils.latest_version().startswith(f"{KUBERNETES[1]}.")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_name_is_given_twice(profile: str) -> None:
    """A second object of one kind and name would overwrite the first."""
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in objects(profile)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_cluster_takes_every_object(profile: str, kubernetes: str) -> None:
    """Against the schemas of Kubernetes and of the operators, unknown fields refused."""
    assert [fault for one in objects(profile) for fault in faults(one, kubernetes)] == []


GOOD: dict[str, Object] = {
    "built in": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"b": "c"}},
    "keda": {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": {"name": "b"}, "triggers": [{"type": "redis-streams", "metadata": {"stream": "c"}}]},
    },
    "prometheus": {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"b": "c"}}, "podMetricsEndpoints": [{"port": "metrics"}]},
    },
    "cert-manager": {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "a"},
        "spec": {"secretName": "b", "issuerRef": {"name": "c", "kind": "Issuer"}, "dnsNames": ["d"]},
    },
}


@pytest.mark.parametrize(
    ("kind", "change", "phrase"),
    [
        ("built in", {"dada": {}}, "'dada' was unexpected"),
        ("built in", {"data": {"b": 1}}, "data.b: 1 is not of type"),
        ("built in", {"kind": "ConfigMop"}, "Couldn't find schema for kind ConfigMop"),
        ("keda", {"spec": {"scaleTargetRef": {"name": "b"}, "triggers": [], "trigers": []}}, "spec.trigers: no such"),
        ("keda", {"spec": {"scaleTargetRef": {}, "triggers": []}}, "spec.scaleTargetRef.name: Field required"),
        (
            "keda",
            {"spec": {"scaleTargetRef": {"name": "b"}, "triggers": [{"type": "c", "metadata": {"lagCount": 5}}]}},
            "spec.triggers.0.metadata.lagCount: Input should be a valid string",
        ),
        (
            "prometheus",
            {"spec": {"selector": {}, "podMetricsEndpoints": [{"prot": "m"}]}},
            "podMetricsEndpoints.0.prot",
        ),
        (
            "cert-manager",
            {"spec": {"secretName": "b", "issuerRef": {"nam": "c"}}},
            "spec.issuerRef.name: Field required",
        ),
        ("cert-manager", {"metadata": {"name": "a", "labls": {}}}, "metadata.labls: no such field"),
    ],
)
def test_what_a_cluster_would_refuse_is_a_fault(kind: str, change: dict[str, Any], phrase: str) -> None:
    """An unknown field, a wrong type, a missing field, an unknown kind; and the same object without it is none."""
    assert faults(GOOD[kind], KUBERNETES[0]) == []
    (fault,) = faults(GOOD[kind] | change, KUBERNETES[0])
    assert phrase in fault
