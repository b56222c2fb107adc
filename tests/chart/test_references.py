"""What the schemas do not see: names that are too long, what is named and not there, what is there twice."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.network import selects
from tests.chart.pods import Pod, pods
from tests.chart.rendering import PROFILES, Object, name_of, objects, of_kind

LONGEST_RELEASE = "a-release-whose-name-is-as-long-as-helm-lets-it-be-53"  # Helm refuses longer ones
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")

# What the values of ``everything`` and ``everything-else`` say that the namespace has.
GIVEN_SECRETS = {
    "backup-queue",
    "bucket",
    "coordinator-tls",
    "exporter-queue",
    "gateway-queue",
    "hugging-face",
    "mutual-tls",
    "queue-address",
    "queue-password",
    "queue-tls",
    "registry",
}
GIVEN_CLAIMS = {"checkpoints", "snapshots"}
GIVEN_MAPS = {"authority", "router-of-math"}


def labels_in(found: Any) -> Iterator[str]:
    """Yield the value of every label in an object, at whatever depth."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key in {"labels", "matchLabels"}:
                yield from value.values()
            else:
                yield from labels_in(value)
    elif isinstance(found, list):
        for value in found:
            yield from labels_in(value)


@pytest.mark.parametrize("release", ["gsi", LONGEST_RELEASE])
@pytest.mark.parametrize("profile", PROFILES)
def test_names_and_labels_fit(profile: str, release: str) -> None:
    """In 63 letters, with the longest name that a release can have; two objects still have two names."""
    assert len(LONGEST_RELEASE) == 53
    found = objects(profile, release=release)
    assert [name_of(one) for one in found if not DNS_LABEL.fullmatch(one["metadata"]["name"])] == []
    assert [value for one in found for value in labels_in(one) if not LABEL_VALUE.fullmatch(value)] == []
    assert [name for name, count in Counter(map(name_of, found)).items() if count > 1] == []
    for pod in pods(found):
        ports = [port["name"] for container in pod.containers for port in container.get("ports", [])]
        assert all(PORT_NAME.fullmatch(name) for name in ports)
        if pod.owner["kind"] == "StatefulSet":  # its pods' names are host names
            assert len(pod.owner["metadata"]["name"]) + len("-0") <= 63


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_in_a_pod_is_given_twice(profile: str) -> None:
    """The API takes a variable that is given twice, and the last one wins in silence."""
    for pod in pods(objects(profile)):
        lists = [[volume["name"] for volume in pod.spec.get("volumes", [])], [one["name"] for one in pod.containers]]
        for container in pod.containers:
            lists.append([variable["name"] for variable in container.get("env", [])])
            lists.append([mount["mountPath"] for mount in container.get("volumeMounts", [])])
            lists.append([port["name"] for port in container.get("ports", [])])
        assert [names for names in lists if len(names) > len(set(names))] == [], pod.name


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_pod_names_is_there(profile: str) -> None:
    """Volumes, ConfigMaps, claims, accounts and Secrets: of the chart, or those that the values name."""
    found = objects(profile)

    def of(kind: str) -> set[str]:
        return {one["metadata"]["name"] for one in of_kind(found, kind)}

    secrets = GIVEN_SECRETS | {one["spec"]["secretName"] for one in of_kind(found, "Certificate")}
    for pod in pods(found):
        volumes = pod.spec.get("volumes", [])
        own = {volume["name"] for volume in [*volumes, *_claims(pod)]}
        assert {mount["name"] for one in pod.containers for mount in one.get("volumeMounts", [])} <= own
        assert {volume["configMap"]["name"] for volume in volumes if "configMap" in volume} <= of(
            "ConfigMap"
        ) | GIVEN_MAPS
        claims = {one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one}
        assert claims <= of("PersistentVolumeClaim") | GIVEN_CLAIMS | _claims_of_replicas(found)
        assert pod.spec["serviceAccountName"] in of("ServiceAccount")
        assert _secrets(pod) <= secrets


def _claims_of_replicas(found: list[Object]) -> set[str]:
    """Return the claims that StatefulSets make: ``data-gsi-redis-0``."""
    return {
        f"{claim['metadata']['name']}-{one['metadata']['name']}-{number}"
        for one in of_kind(found, "StatefulSet")
        for claim in one["spec"].get("volumeClaimTemplates", [])
        for number in range(one["spec"]["replicas"])
    }


def _claims(pod: Pod) -> list[dict[str, str]]:
    return [claim["metadata"] for claim in pod.owner["spec"].get("volumeClaimTemplates", [])]


def _secrets(pod: Pod) -> set[str]:
    """Return the Secrets that a pod needs to start."""
    volumes = {volume["secret"]["secretName"] for volume in pod.spec.get("volumes", []) if "secret" in volume}
    variables = [variable for one in pod.containers for variable in one.get("env", [])]
    sources = [variable["valueFrom"] for variable in variables if "valueFrom" in variable]
    return (
        volumes
        | {source["secretKeyRef"]["name"] for source in sources if "secretKeyRef" in source}
        | {one["name"] for one in pod.spec.get("imagePullSecrets", [])}
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_hook_needs_is_there_when_it_runs(profile: str) -> None:
    """A hook before the installation finds only earlier hooks: its account is one of those, and so is its policy.

    A namespace may refuse what no policy allows; and a policy that came later would be no part of it.
    """
    found = objects(profile)
    hooks = [one for one in found if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    jobs = [pod for pod in pods(hooks) if pod.owner["kind"] == "Job"]
    assert jobs
    for pod in jobs:
        if not _phase(pod.owner).startswith("pre-"):
            continue
        (account,) = (
            one for one in of_kind(hooks, "ServiceAccount") if one["metadata"]["name"] == pod.spec["serviceAccountName"]
        )
        own = [one for one in of_kind(hooks, "NetworkPolicy") if selects(one["spec"]["podSelector"], pod.labels)]
        assert len(own) == len(of_kind(found, "NetworkPolicy")[:1])
        for needed in (account, *own):
            assert _phase(needed) == _phase(pod.owner)
            assert _weight(needed) < _weight(pod.owner)


def _phase(hook: Object) -> str:
    phase: str = hook["metadata"]["annotations"]["helm.sh/hook"]
    return phase


def _weight(hook: Object) -> int:
    return int(hook["metadata"]["annotations"].get("helm.sh/hook-weight", "0"))
