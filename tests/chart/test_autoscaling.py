"""Scalers that wake, that see every lane, and that are nobody's rival.

How KEDA's trigger ``redis-streams`` works, read off its source (pkg/scalers/redis_streams_scaler.go, 2.12 to 2.18):
with ``consumerGroup`` and ``lagCount`` it counts the group's lag, with ``consumerGroup`` alone the pending entries,
without a group the stream's length; it is active when that count is *greater than* ``activationLagCount``. Some
releases refuse 0 there (https://github.com/kedacore/keda/pull/6481), and with them one waiting job alone wakes nobody
by the lag (https://github.com/kedacore/keda/issues/6478).
"""

from collections.abc import Mapping

import pytest

from gsi.jobs.keys import GROUP, Keys
from tests.chart.pods import Pod, pod_of, pods
from tests.chart.rendering import PROFILES, Object, component, name_of, objects, objects_with, of_kind

ROLES = ("draft", "target", "prm")
SCALERS = {"ScaledObject": "minReplicaCount", "HorizontalPodAutoscaler": "minReplicas"}
SCALED = ("everything", "everything-else")


def triggers(found: list[Object]) -> list[Mapping[str, str]]:
    """Return the metadata of the triggers on Redis streams."""
    (scaler,) = (one for one in of_kind(found, "ScaledObject") if component(one) == "coordinator")
    return [one["metadata"] for one in scaler["spec"]["triggers"] if one["type"] == "redis-streams"]


def is_active(trigger: Mapping[str, str], waiting: int, running: int) -> bool:
    """Return whether a lane with so many jobs wakes a coordinator."""
    if "consumerGroup" not in trigger:
        count = waiting + running  # an entry is deleted when its job is done
    elif "lagCount" in trigger:
        count = waiting
    else:
        count = running
    return count > int(trigger.get("activationLagCount", "0"))


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_scaled_begins_at_the_scalers_minimum(profile: str) -> None:
    """An upgrade keeps what runs (``test_upgrade``). Each scaler has a Deployment to scale, and none has two."""
    found = objects(profile)
    scaled = [one["spec"]["scaleTargetRef"] for one in of_kind(found, *SCALERS)]
    names = [(target["kind"], target["name"]) for target in scaled]
    assert len(names) == len(set(names))
    workloads = {(one["kind"], one["metadata"]["name"]): one for one in of_kind(found, "Deployment", "StatefulSet")}
    assert set(names) <= set(workloads)
    scalers = of_kind(found, *SCALERS)
    for name, scaler in zip(names, scalers, strict=True):
        assert workloads[name]["spec"]["replicas"] == scaler["spec"][SCALERS[scaler["kind"]]], name


def test_the_options_turn_the_scalers_on() -> None:
    """So that the tests here are about something."""
    kinds = {
        profile: {(one["kind"], component(one)) for one in of_kind(objects(profile), *SCALERS)} for profile in SCALED
    }
    assert kinds["everything"] == {
        ("ScaledObject", "draft"),
        ("HorizontalPodAutoscaler", "prm"),
        ("ScaledObject", "coordinator"),
    }
    assert kinds["everything-else"] == {
        ("HorizontalPodAutoscaler", "draft"),
        ("ScaledObject", "prm"),
        ("ScaledObject", "coordinator"),
        ("HorizontalPodAutoscaler", "gateway"),
    }


@pytest.mark.parametrize("profile", SCALED)
def test_the_triggers_see_every_lane_of_the_queue(profile: str) -> None:
    """Waiting and running jobs, by the very names that the code gives to streams and group."""
    (queue,) = (
        one["value"]
        for one in pod_of(objects(profile), "coordinator").container()["env"]
        if one["name"] == "GSI_COORDINATOR_QUEUE"
    )
    lanes = set(Keys(queue).lanes)
    assert len(lanes) == 3
    found = triggers(objects(profile))
    assert {one["stream"] for one in found if "lagCount" in one} == lanes
    assert {one["stream"] for one in found if "pendingEntriesCount" in one} == lanes
    assert {one["consumerGroup"] for one in found if "consumerGroup" in one} == {GROUP}


@pytest.mark.parametrize("profile", SCALED)
def test_a_trigger_counts_one_thing_and_every_release_of_keda_takes_it(profile: str) -> None:
    """With lag and pending entries in one trigger only the lag would count; some refuse a lag's activation of 0."""
    for trigger in triggers(objects(profile)):
        counted = {"lagCount", "pendingEntriesCount", "streamLength"} & set(trigger)
        assert len(counted) == 1
        assert all(int(trigger[name]) >= 1 for name in counted)
        assert ("consumerGroup" in trigger) == ("streamLength" not in trigger)
        if "lagCount" in trigger:
            assert int(trigger["activationLagCount"]) >= 1


@pytest.mark.parametrize(("waiting", "running"), [(1, 0), (0, 1)])
@pytest.mark.parametrize("profile", SCALED)
def test_a_single_job_keeps_a_coordinator_awake(profile: str, waiting: int, running: int) -> None:
    """In whatever lane it is, and whether it waits or runs; and an empty queue does not."""
    found = triggers(objects(profile))
    for lane in {one["stream"] for one in found}:
        of_lane = [one for one in found if one["stream"] == lane]
        assert any(is_active(one, waiting, running) for one in of_lane), lane
        assert not any(is_active(one, 0, 0) for one in of_lane)


def test_waking_asks_for_no_more_pods_than_waiting_and_running_do() -> None:
    """A lane's length is there to wake: its target is that of both together, so that it never asks for more pods."""
    by_lane: dict[str, dict[str, int]] = {}
    for one in triggers(objects("everything")):
        for name in ("lagCount", "pendingEntriesCount", "streamLength"):
            if name in one:
                by_lane.setdefault(one["stream"], {})[name] = int(one[name])
    for targets in by_lane.values():
        assert targets == {"lagCount": 8, "pendingEntriesCount": 12, "streamLength": 20}


@pytest.mark.parametrize("profile", SCALED)
def test_keda_reads_the_password_from_the_secret(profile: str) -> None:
    """Through a TriggerAuthentication that exists, never in the trigger; and over TLS where Redis has it."""
    found = objects(profile)
    (scaler,) = (one for one in of_kind(found, "ScaledObject") if component(one) == "coordinator")
    authentications = {one["metadata"]["name"]: one["spec"] for one in of_kind(found, "TriggerAuthentication")}
    for trigger in scaler["spec"]["triggers"]:
        references = authentications[trigger["authenticationRef"]["name"]]["secretTargetRef"]
        assert ("password", "queue-password") in {(one["parameter"], one["name"]) for one in references}
        assert not {"password", "username"} & set(trigger["metadata"])
        assert trigger["metadata"]["enableTLS"] == ("true" if profile == "everything-else" else "false")


def test_keda_can_be_given_an_authentication_of_ones_own() -> None:
    """Where a Secret hides the address, and with it user, password and TLS: then the trigger says nothing of them."""
    found = objects_with("everything-else", {"coordinator": {"autoscaling": {"redisAuthentication": "queue"}}})
    assert [name_of(one) for one in of_kind(found, "TriggerAuthentication")] == []
    (scaler,) = (one for one in of_kind(found, "ScaledObject") if component(one) == "coordinator")
    for trigger in scaler["spec"]["triggers"]:
        assert trigger["authenticationRef"] == {"name": "queue"}
        assert not {"enableTLS", "username", "password"} & set(trigger["metadata"])


def words(pod: Pod) -> list[str]:
    """Return the command line of a pod."""
    return [*pod.container().get("command", []), *pod.container().get("args", [])]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_streams_are_made_before_a_scaler_looks_at_them(profile: str) -> None:
    """By a hook of each installation and upgrade, on the coordinator's own queue: KEDA scales without end on a stream
    that is not there."""
    found = objects(profile)
    hooks = [
        pod
        for pod in pods(found)
        if pod.owner["kind"] == "Job"
        and "queue" in [*pod.container().get("command", []), *pod.container().get("args", [])]
    ]
    (hook,) = hooks
    words = [*hook.container().get("command", []), *hook.container().get("args", [])]
    assert words[words.index("queue") + 1] == "create"
    annotations = hook.owner["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] in {"pre-install,pre-upgrade", "post-install,post-upgrade"}
    environment = {one["name"]: one.get("value") for one in hook.container()["env"]}
    coordinator = {one["name"]: one.get("value") for one in pod_of(found, "coordinator").container()["env"]}
    assert environment["GSI_QUEUE"] == coordinator["GSI_COORDINATOR_QUEUE"]
    assert environment["GSI_REDIS_URL"] == coordinator["GSI_COORDINATOR_REDIS_URL"]


def test_pods_go_one_at_a_time_and_late() -> None:
    """Each drains first, and loading a model again is dear."""
    for one in of_kind(objects("everything"), *SCALERS):
        spec = one["spec"]
        behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300
        assert [(policy["type"], policy["value"]) for policy in behavior["scaleDown"]["policies"]] == [("Pods", 1)]


def test_from_zero_to_the_maximum() -> None:
    """What is given is what the scaler gets."""
    changed = {"coordinator": {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 7}}}
    (scaler,) = of_kind(objects_with("cpu", changed), "ScaledObject")
    assert (scaler["spec"]["minReplicaCount"], scaler["spec"]["maxReplicaCount"]) == (2, 7)
