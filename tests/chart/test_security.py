"""What every pod may do, whatever makes it: Deployments, StatefulSets, Jobs, hooks and test pods."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chart import security
from tests.chart.pods import Pod, pods
from tests.chart.rendering import PROFILES, Object, manifest, name_of, objects, objects_with, of_kind

ROLES = ("draft", "target", "prm")

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_pod_keeps_the_rules(profile: str) -> None:
    """Not root, nothing to write, no rights, no token, a known image, bounded memory, no secret in sight."""
    found = pods(objects(profile))
    assert {pod.component for pod in found} >= {"draft", "target", "prm", "coordinator", "gateway"}
    assert [fault for pod in found for fault in security.faults(pod)] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_no_secret_is_made(profile: str) -> None:
    """The chart refers to Secrets and holds none; it gives nobody any right at the cluster's API either."""
    kinds = ("Secret", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    assert [name_of(one) for one in of_kind(objects(profile), *kinds)] == []
    assert security.IN_URL.search(manifest("4.3", PROFILES[profile])) is None


@pytest.mark.parametrize("profile", PROFILES)
def test_no_pod_reports_its_use(profile: str) -> None:
    """vLLM and Hugging Face's libraries would, unless told not to."""
    found = [pod.container() for pod in pods(objects(profile)) if pod.component in {*ROLES, "download"}]
    assert len(found) >= len(ROLES)
    for container in found:
        said = {one["name"]: one.get("value") for one in container["env"]}
        assert said["HF_HUB_DISABLE_TELEMETRY"] == "1"
        assert said.get("VLLM_NO_USAGE_STATS") == "1" or container["name"] == "download"


def test_models_let_in_the_coordinators_alone() -> None:
    """Their certificate has the one name that may call; no certificate of a model has it."""
    found = objects("everything")
    names = {name_of(one).split("/")[-1].split("-")[-1]: one["spec"] for one in of_kind(found, "Certificate")}
    assert set(names) == {*ROLES, "coordinator", "gateway"}
    (allowed,) = callers(found)
    assert names["coordinator"]["dnsNames"] == [allowed]
    assert not any(allowed in names[other]["dnsNames"] for other in (*ROLES, "gateway"))
    assert len({spec["secretName"] for spec in names.values()}) == len(names)
    for pod in pods(found):
        if pod.component in names:
            secrets = {volume["secret"]["secretName"] for volume in pod.spec["volumes"] if volume["name"] == "tls"}
            assert secrets <= {names[pod.component]["secretName"]}, pod.name


def test_models_let_in_whom_the_values_name_and_every_certificate_if_nobody_is_known() -> None:
    """The names in given certificates are unknown to the chart."""
    assert callers(objects("everything-else")) == {"spiffe://example.com/gsi-coordinator,gsi-operator"}
    given = {"tls": {"enabled": True, "existingSecret": "mutual-tls"}}
    assert callers(objects_with("cpu", given)) == set()


def test_a_cluster_may_choose_the_users() -> None:
    """OpenShift refuses a pod that names its own: with null, none does, and nothing else is given up."""
    assigned = {"security": {"uid": None}, "redis": {"builtIn": {"uid": None}}}
    found = pods(objects_with("cpu", assigned))
    assert found
    for pod in found:
        contexts = [pod.spec["securityContext"], *(one["securityContext"] for one in pod.containers)]
        assert not [context for context in contexts if {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()]
        assert contexts[0]["runAsNonRoot"] is True
        as_assigned = Pod(
            pod.owner, pod.metadata, pod.spec | {"securityContext": contexts[0] | {"runAsUser": 1000690000}}
        )
        assert security.faults(as_assigned) == []


def test_what_a_pod_may_do_can_be_changed() -> None:
    """For all, and for one model that needs more: RDMA locks memory, and its device is a resource."""
    changed = {
        "security": {
            "podSecurityContext": {"supplementalGroups": [2000]},
            "containerSecurityContext": {"procMount": "Default"},
        },
        "target": {
            "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
            "resources": {"limits": {"memory": "4Gi", "rdma/hca": "1"}},
        },
    }
    for pod in pods(objects_with("cpu", changed)):
        assert pod.spec["securityContext"]["supplementalGroups"] == [2000]
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        for container in pod.containers:
            assert container["securityContext"]["procMount"] == "Default"
            expected = {"drop": ["ALL"]} | ({"add": ["IPC_LOCK"]} if pod.component == "target" else {})
            assert container["securityContext"]["capabilities"] == expected
        if pod.component == "target":
            assert pod.container()["resources"]["limits"]["rdma/hca"] == "1"


def callers(found: list[Object]) -> set[str]:
    """Return what the models are told of the names that may call."""
    settings = {
        (pod.component, one["name"]): one["value"]
        for pod in pods(found)
        for one in pod.container().get("env", [])
        if one["name"].endswith("_TLS_CALLERS")
    }
    assert not settings or {(role, f"GSI_{role.upper()}_TLS_CALLERS") for role in ROLES} == set(settings)
    return set(settings.values())


def _container(change: Change) -> Change:
    return lambda spec: change(spec["containers"][0])


def _context(**values: object) -> Change:
    return _container(lambda container: container["securityContext"].update(values))


def _env(name: str, value: str) -> Change:
    return _container(lambda container: container.setdefault("env", []).append({"name": name, "value": value}))


CHANGES: list[tuple[Change, str]] = [
    (lambda spec: spec.pop("automountServiceAccountToken"), "service account's token"),
    (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
    (lambda spec: spec.update(enableServiceLinks=True), "every Service"),
    (lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}), "a folder of the node"),
    (lambda spec: spec["containers"].append({"name": "new", "image": "a:1"}), "new: may write its root file system"),
    (lambda spec: spec.update(initContainers=[{"name": "first", "image": "a:1"}]), "first: has capabilities"),
    (_context(runAsUser=0), "may run as root"),
    (_context(runAsNonRoot=False), "may run as root"),
    (_context(seccompProfile={"type": "Unconfined"}), "seccomp"),
    (_context(readOnlyRootFilesystem=False), "root file system"),
    (_context(allowPrivilegeEscalation=True), "privileges"),
    (_context(privileged=True), "privileges"),
    (_context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "capabilities"),
    (_container(lambda container: container.update(image="registry:5000/gsi-slim")), "neither tag nor digest"),
    (_container(lambda container: container.update(image="gsi-slim:latest")), "another one tomorrow"),
    (_container(lambda container: container["resources"]["limits"].pop("memory")), "no limits of memory"),
    (_env("REDIS_PASSWORD", "hunter2"), "REDIS_PASSWORD holds its secret itself"),
    (_env("GSI_COORDINATOR_REDIS_URL", "redis://:hunter2@gsi-redis:6379/0"), "a password in its URL"),
    (_container(lambda container: container.update(args=["--requirepass hunter2"])), "a password is among"),
]


@pytest.mark.parametrize(("change", "phrase"), CHANGES, ids=[phrase for _, phrase in CHANGES])
def test_a_pod_that_breaks_a_rule_is_found(change: Change, phrase: str) -> None:
    """So that the rules above are ones that can be broken."""
    pod = next(pod for pod in pods(objects("cpu")) if pod.component == "coordinator")
    changed = Pod(pod.owner, pod.metadata, pod.spec)
    change(changed.spec)
    assert any(phrase in fault for fault in security.faults(changed))
