"""Who reaches whom under the rendered NetworkPolicies, read by an evaluator of our own (``network``)."""

from typing import Any

import pytest

from tests.chart.network import Place, may_connect, selects
from tests.chart.pods import Pod, pods
from tests.chart.rendering import NAMESPACE, PROFILES, Object, component, objects, objects_with, of_kind

ROLES = ("draft", "target", "prm")
GRPC, HEALTH, METRICS, REDIS, DNS = 50051, 50052, 9464, 6379, 53
WITH_BUILT_IN_REDIS = [profile for profile in PROFILES if profile != "everything-else"]

STRANGER = Place(NAMESPACE, {"app": "something-else"})
SAME_LABELS_ELSEWHERE = "another-namespace"
PROMETHEUS = Place("monitoring", {"app.kubernetes.io/name": "prometheus"})
KEDA = Place("keda", {"app": "keda-operator"})
CLUSTER_DNS = Place("kube-system", {"k8s-app": "kube-dns"})


def place(pod: Pod, namespace: str = NAMESPACE) -> Place:
    return Place(namespace, pod.labels, tuple(pod.containers))


def policies(found: list[Object]) -> list[Object]:
    return of_kind(found, "NetworkPolicy")


class Cluster:
    """A release of the chart with others around it, and the policies of all."""

    def __init__(self, profile: str) -> None:
        own = objects(profile)
        neighbour = objects(profile, release="other")
        elsewhere = objects(profile, namespace=SAME_LABELS_ELSEWHERE)
        self.pods = {pod.name: place(pod) for pod in pods(own)}
        self.components = {pod.name: pod.component for pod in pods(own)}
        self.strangers = {f"other release's {pod.name}": place(pod) for pod in pods(neighbour)}
        self.strangers |= {
            f"other namespace's {pod.name}": place(pod, SAME_LABELS_ELSEWHERE) for pod in pods(elsewhere)
        }
        self.strangers |= {"stranger": STRANGER, "prometheus": PROMETHEUS, "keda": KEDA}
        self.policies = policies(own) + policies(neighbour) + policies(elsewhere)

    def named(self, component: str) -> list[str]:
        return [name for name, found in self.components.items() if found == component]

    def who_reaches(self, target: Place, port: int) -> set[str]:
        everyone = self.pods | self.strangers
        return {name for name, source in everyone.items() if may_connect(self.policies, source, target, port)}


@pytest.fixture(scope="module", params=PROFILES)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return Cluster(request.param)


@pytest.mark.parametrize("role", ROLES)
def test_only_the_releases_own_coordinators_and_its_check_reach_a_model(cluster: Cluster, role: str) -> None:
    """No stranger, not Redis, not another release's coordinator nor one of the same name in another namespace."""
    (coordinator,), (check,) = cluster.named("coordinator"), cluster.named("check")
    for model in cluster.named(role):
        assert cluster.who_reaches(cluster.pods[model], GRPC) - set(cluster.named(role)) == {coordinator, check}


@pytest.mark.parametrize("component", [*ROLES, "coordinator", "gateway", "exporter"])
def test_prometheus_reaches_metrics_and_no_stranger_does(cluster: Cluster, component: str) -> None:
    """The kubelet's probes come from the node, which policies let through."""
    for name in cluster.named(component):
        reaches = cluster.who_reaches(cluster.pods[name], METRICS)
        assert "prometheus" in reaches
        assert not reaches & {"stranger", "keda"}


@pytest.mark.parametrize("profile", WITH_BUILT_IN_REDIS)
def test_the_built_in_redis_is_reached_by_the_queues_users_alone(profile: str) -> None:
    """Coordinators, the hook that makes the streams, the test that pushes a job, and KEDA where it is to count."""
    cluster = Cluster(profile)
    scaled = {component(one) for one in of_kind(objects(profile), "ScaledObject")}
    (redis,) = (cluster.pods[name] for name in cluster.named("redis"))
    jobs = {pod.name for pod in pods(objects(profile)) if _uses_the_queue(pod)}
    assert {*cluster.named("coordinator")} < jobs
    assert cluster.who_reaches(redis, REDIS) == jobs | ({"keda"} if "coordinator" in scaled else set())


def _uses_the_queue(pod: Pod) -> bool:
    return any(variable["name"].endswith("REDIS_URL") for one in pod.containers for variable in one.get("env", []))


def test_who_pushes_jobs_can_be_let_in() -> None:
    """By a label of one's own."""
    found = objects("everything")
    (redis,) = (pod for pod in pods(found) if pod.component == "redis")
    client = Place(NAMESPACE, {"example.com/pushes-jobs": "true"})
    assert may_connect(policies(found), client, place(redis), REDIS)


def test_every_pod_of_the_release_that_needs_names_can_ask_for_them(cluster: Cluster) -> None:
    """A policy of egress that forgets DNS stops everything, with a time-out for its only sign."""
    for name, source in cluster.pods.items():
        if cluster.components[name] != "redis":
            assert may_connect(cluster.policies, source, CLUSTER_DNS, DNS, "UDP"), name


def test_what_the_values_let_out_holds_for_hooks_and_downloads_too() -> None:
    """A mirror or proxy on another port than 443, and the DNS of a cluster that listens on another than 53."""
    cluster = Cluster("everything")
    assert cluster.named("queue")
    assert cluster.named("download")
    for name, source in cluster.pods.items():
        is_open = may_connect(cluster.policies, source, Place("openshift-dns", {}), 5353, "UDP")
        assert is_open == (cluster.components[name] != "redis"), name


def test_a_model_on_several_nodes_talks_among_its_own_pods() -> None:
    """Pods of one engine open ports of their own choice; the coordinator has no way to those."""
    cluster = Cluster("everything")
    (target,) = (cluster.pods[name] for name in cluster.named("target"))
    (coordinator,) = (cluster.pods[name] for name in cluster.named("coordinator"))
    for port in (29555, 41234):
        assert may_connect(cluster.policies, target, target, port)
        assert not may_connect(cluster.policies, coordinator, target, port)
    assert not may_connect(cluster.policies, STRANGER, target, 29555)


def test_without_policies_everybody_reaches_everybody() -> None:
    """The value turns them all off, and the evaluator refuses nothing by itself."""
    found = objects_with("cpu", {"networkPolicy": {"enabled": False}})
    assert policies(found) == []
    (draft,) = (pod for pod in pods(found) if pod.component == "draft")
    assert may_connect([], STRANGER, place(draft), GRPC)


def _policy(ingress: list[Any], **spec: Any) -> Object:
    rules = {"podSelector": {"matchLabels": {"app": "served"}}, "ingress": ingress} | spec
    return {"kind": "NetworkPolicy", "metadata": {"name": "a", "namespace": NAMESPACE}, "spec": rules}


SERVED = Place(NAMESPACE, {"app": "served"}, ({"ports": [{"name": "grpc", "containerPort": GRPC}]},))


@pytest.mark.parametrize(
    ("policy", "source", "is_allowed"),
    [
        (_policy([]), STRANGER, False),
        (_policy([{}]), STRANGER, True),
        (_policy([{"from": [{"podSelector": {}}]}]), STRANGER, True),
        (_policy([{"from": [{"podSelector": {}}]}]), PROMETHEUS, False),
        (_policy([{"from": [{"namespaceSelector": {}}]}]), PROMETHEUS, True),
        (_policy([{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}]}]), KEDA, False),
        (_policy([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]), STRANGER, True),
        (_policy([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.0.0/16"]}}]}]), STRANGER, False),
        (_policy([{"ports": [{"port": "grpc"}]}]), STRANGER, True),
        (_policy([{"ports": [{"port": "health"}]}]), STRANGER, False),
        (_policy([{"ports": [{"port": 50000, "endPort": 50100}]}]), STRANGER, True),
        (_policy([{"ports": [{"port": GRPC, "protocol": "UDP"}]}]), STRANGER, False),
        (_policy([], policyTypes=["Egress"]), STRANGER, True),
        (_policy([], podSelector={"matchLabels": {"app": "another"}}), STRANGER, True),
        (_policy([], podSelector={"matchLabels": {"app": "something-else"}}, egress=[]), STRANGER, False),
    ],
)
def test_the_evaluator_reads_a_policy_as_a_cluster_does(policy: Object, source: Place, is_allowed: bool) -> None:
    """The cases of the documentation: empty means all, missing means none, a namespace and a pod together mean both."""
    assert may_connect([policy], source, SERVED, GRPC) is is_allowed


@pytest.mark.parametrize(
    ("operator", "labels", "expected"),
    [
        ("In", {"a": "b"}, True),
        ("In", {}, False),
        ("NotIn", {"a": "b"}, False),
        ("NotIn", {}, True),
        ("Exists", {"a": "z"}, True),
        ("DoesNotExist", {"a": "z"}, False),
    ],
)
def test_a_selectors_expressions(operator: str, labels: dict[str, str], expected: bool) -> None:
    """As Kubernetes reads them."""
    values = ["b"] if "In" in operator else []
    assert selects({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}, labels) is expected
