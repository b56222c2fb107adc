"""Roll-outs, drains and restarts end: no deadlock over a GPU, no pod that is killed while it loads or drains."""

import re
from typing import Any

import pytest

from tests.chart.network import selects
from tests.chart.pods import Pod, pod_of, pods
from tests.chart.rendering import PROFILES, Object, component, name_of, objects, objects_with, of_kind

ROLES = ("draft", "target", "prm")
PROCESSES = (*ROLES, "coordinator", "gateway", "exporter")
LONG_RUNNING = {"Deployment", "StatefulSet"}
LOADING_SECONDS = {"cpu": 120}  # the shipped family
LARGE_LOADING_SECONDS = 1800  # tens of gigabytes from a slow disk
HEALTH_PORT = 50052


def has_gpu(pod: Pod) -> bool:
    limits = pod.container()["resources"].get("limits", {})
    return any("/" in name for name in limits)  # a device plugin's resources have a domain


def kept_running(found: list[Object]) -> list[Pod]:
    return [pod for pod in pods(found) if pod.owner["kind"] in LONG_RUNNING]


def setting(pod: Pod, name: str) -> float:
    (value,) = (one["value"] for one in pod.container()["env"] if one["name"].endswith(name))
    return float(value)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_new_pod_never_waits_for_a_gpu_that_the_old_one_has(profile: str) -> None:
    """Deployments with GPUs are recreated, or have no surge; and no Deployment may neither add nor remove a pod."""
    for pod in kept_running(objects(profile)):
        if pod.owner["kind"] != "Deployment":
            continue
        strategy = pod.owner["spec"]["strategy"]
        rolling = strategy.get("rollingUpdate", {})
        assert strategy["type"] == "Recreate" or (rolling["maxSurge"], rolling["maxUnavailable"]) != (0, 0)
        if has_gpu(pod):
            assert strategy["type"] == "Recreate" or rolling["maxSurge"] == 0, pod.name


def test_profiles_with_gpus_have_them() -> None:
    """So that the test above is about something: each role of the paper's profile has one, and the laptop's none."""
    with_gpu = {
        profile: {pod.component for pod in kept_running(objects(profile)) if has_gpu(pod)} for profile in PROFILES
    }
    assert with_gpu["qwen2.5-math"] == with_gpu["72b"] == set(ROLES)
    assert with_gpu["cpu"] == set()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_selector_selects_its_own_pods_alone(profile: str) -> None:
    """Of whatever keeps pods: two that share pods would fight over them."""
    running = kept_running(objects(profile))
    for pod in running:
        selector = pod.owner["spec"]["selector"]
        assert [other.name for other in pods(objects(profile)) if selects(selector, other.labels)] == [pod.name]


def test_a_selector_stays_the_same_when_values_change() -> None:
    """It cannot be changed: an upgrade that tries fails. Versions, tags and labels of one's own are not in it."""
    changes: dict[str, Any] = {"commonLabels": {"team": "new"}}
    changes |= {role: {"image": {"tag": "9.9.9"}, "podLabels": {"more": "labels"}} for role in PROCESSES}

    def selectors(found: list[Object]) -> dict[str, Any]:
        return {pod.name: pod.owner["spec"]["selector"]["matchLabels"] for pod in kept_running(found)}

    before = selectors(objects("cpu"))
    assert selectors(objects_with("cpu", changes)) == before
    assert len(before) == 7
    names = {label for labels in before.values() for label in labels}
    assert names == {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


@pytest.mark.parametrize("profile", PROFILES)
def test_what_selects_pods_finds_those_of_its_component(profile: str) -> None:
    """Services, disruption budgets and PodMonitors; a Service's port is one that the pods have."""
    found = objects(profile)
    running = kept_running(found)
    for one in of_kind(found, "Service"):
        own = [pod for pod in running if selects({"matchLabels": _stable(one["spec"]["selector"])}, pod.labels)]
        assert [pod.component for pod in own] == [component(one)]
        names = {port.get("name") for pod in own for port in pod.container().get("ports", [])}
        targets = {port.get("targetPort", port["port"]) for port in one["spec"]["ports"]}
        assert {target for target in targets if isinstance(target, str)} <= names
    for one in of_kind(found, "PodDisruptionBudget"):
        assert [pod.component for pod in running if selects(one["spec"]["selector"], pod.labels)] == [component(one)]
    for one in of_kind(found, "PodMonitor"):
        scraped = {pod.component for pod in running if selects(one["spec"]["selector"], pod.labels)}
        assert scraped == set(PROCESSES)


def _stable(selector: dict[str, str]) -> dict[str, str]:
    """Return a selector without the label that a StatefulSet's controller gives to each of its pods."""
    return {key: value for key, value in selector.items() if key != "statefulset.kubernetes.io/pod-name"}


@pytest.mark.parametrize("profile", PROFILES)
def test_models_have_headless_services(profile: str) -> None:
    """HTTP/2 stays on the pod behind a cluster's address that it reached first; so clients see every pod's own."""
    found = objects(profile)
    for role in ROLES:
        services = [one for one in of_kind(found, "Service") if component(one) == role]
        assert services
        assert {one["spec"]["clusterIP"] for one in services} == {"None"}


@pytest.mark.parametrize("profile", PROFILES)
def test_probes_are_native_and_patient(profile: str) -> None:
    """Loading a large model has half an hour; liveness asks for the process alone, readiness for everything."""
    for pod in kept_running(objects(profile)):
        if pod.component not in {*ROLES, "coordinator", "exporter"}:
            continue
        container = pod.container()
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
        assert {name: probe["grpc"]["port"] for name, probe in probes.items()} == dict.fromkeys(probes, ports["health"])
        assert probes["liveness"]["grpc"]["service"] == "liveness"
        assert probes["readiness"]["grpc"].get("service", "") == ""
        if pod.component in ROLES:
            budget = probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"]
            assert budget >= LOADING_SECONDS.get(profile, LARGE_LOADING_SECONDS)
            assert pod.owner["kind"] != "Deployment" or pod.owner["spec"]["progressDeadlineSeconds"] > budget


@pytest.mark.parametrize("profile", PROFILES)
def test_a_pod_is_not_killed_while_it_drains(profile: str) -> None:
    """A model has its grace period and some seconds to stop; a coordinator hands its jobs back and needs less.

    A gateway first waits until Services have forgotten it; its open requests have their time after that.
    """
    for pod in kept_running(objects(profile)):
        if pod.component in ROLES:
            assert pod.spec["terminationGracePeriodSeconds"] >= setting(pod, "_GRACE_SECONDS") + 10
        elif pod.component == "coordinator":
            assert pod.spec["terminationGracePeriodSeconds"] >= 20
        elif pod.component == "gateway":
            (pause,) = re.findall(r"sleep\((\d+)\)", str(pod.container().get("lifecycle"))) or ["0"]
            assert pod.spec["terminationGracePeriodSeconds"] > int(pause) + setting(pod, "_GRACE_SECONDS")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_disruption_budget_lets_a_node_be_drained(profile: str) -> None:
    """At least one pod may go, if it is the only one too; and what is unready already never blocks."""
    for budget in of_kind(objects(profile), "PodDisruptionBudget"):
        spec = budget["spec"]
        assert spec.get("maxUnavailable", 0) not in {0, "0%"}, name_of(budget)
        assert "minAvailable" not in spec
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_coordinator_is_spread_and_every_role_has_a_budget() -> None:
    """The laptop's profile has a budget for each, so that the test above is about something."""
    budgets = {component(one) for one in of_kind(objects("cpu"), "PodDisruptionBudget")}
    assert budgets == set(PROCESSES) - {"exporter"}


@pytest.mark.parametrize("role", ROLES)
def test_the_models_folder_is_read_only(role: str) -> None:
    """Checkpoints on the volume are served, not changed; what libraries write goes where it ends with the pod."""
    pod = pod_of(objects("everything"), role)
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    for container in pod.containers:
        for mount in container.get("volumeMounts", []):
            if "persistentVolumeClaim" in volumes[mount["name"]]:
                assert mount["readOnly"]
    variables = {one["name"]: one.get("value", "") for one in pod.container()["env"]}
    assert variables["HF_HUB_OFFLINE"] == "1"
    writable = {mount["mountPath"] for mount in pod.container()["volumeMounts"] if not mount.get("readOnly")}
    assert {"/tmp", "/dev/shm", variables["HOME"]} <= writable
