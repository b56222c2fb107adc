"""What each guide of ``docs/deploy`` promises of its example."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gsi.planning.architecture import NAMED
from services.gateway.presets import load_presets
from tests.chart import security
from tests.chart.examples import APPLICATION, FOLDER, command_of, example, examples
from tests.chart.network import Place, may_connect
from tests.chart.pods import Pod, pods
from tests.chart.rendering import CHART, Object, component, name_of, of_kind
from tests.chart.test_profiles import ROLES, engine_argument, gpus, models
from tests.chart.test_settings import environment

ALLOWED_BY_SCC = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim"}
ALLOWED_BY_SCC |= {"projected", "secret"}  # of restricted-v2; no others may be mounted
BYTES_A_WEIGHT = 2  # bfloat16
BESIDE_WEIGHTS = 3e9  # of an engine: its context, and what a pass needs
SHARES = 3
OF_MIG = re.compile(r"nvidia\.com/mig-(\d)g\.(\d+)gb")
HOOKS_OF_ARGO_CD = {"pre-install", "pre-upgrade", "post-install", "post-upgrade"}  # others are left out
SPOT = {  # the label of a spot node, by cloud
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
TAINTS = {"cloud.google.com/gke-spot": "true", "kubernetes.azure.com/scalesetpriority": "spot"}
NOTICE_OF_GKE = 15  # seconds for a pod that is no system's: the half of 30


def weight_bytes(pod: Pod) -> int:
    """Return the bytes of the weights that a pod of a named model loads."""
    name = environment(pod.container())[f"GSI_{pod.component.upper()}_MODEL"].rpartition("/")[2]
    architecture = replace(NAMED[name.removesuffix("-Instruct")], is_reward=pod.component == "prm")
    return architecture.num_parameters * BYTES_A_WEIGHT


@pytest.mark.parametrize(("name", "label"), [("gke", "gke-accelerator"), ("eks", "instance-type")])
def test_models_and_downloads_share_nodes_where_one_mounts_the_volume(name: str, label: str) -> None:
    """A disk is made where the first pod with it runs, so that pod must be one that runs beside GPUs."""
    found = example(name)
    (claim,) = (one for one in of_kind(found, "PersistentVolumeClaim") if component(one) == "model-cache")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    mounting = [pod for pod in pods(found) if pod.component in {*ROLES, "download"}]
    assert len(mounting) == 2 * len(ROLES)
    assert len({str(pod.spec["nodeSelector"]) for pod in mounting}) == 1
    assert all(label in str(pod.spec["nodeSelector"]) for pod in mounting)
    assert all(pod.spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}] for pod in mounting)


@pytest.mark.parametrize("name", ["gke", "eks"])
def test_every_volume_has_a_class(name: str) -> None:
    """Without one a claim waits for a default class, which a new cluster may not have."""
    found = example(name)
    specs = [one["spec"] for one in of_kind(found, "PersistentVolumeClaim")]
    specs += [one["spec"] for each in of_kind(found, "StatefulSet") for one in each["spec"]["volumeClaimTemplates"]]
    assert len(specs) == 3
    assert all(spec["storageClassName"] for spec in specs)


@pytest.mark.parametrize("name", ["gke", "eks"])
def test_the_gateway_is_for_the_clouds_own_network(name: str) -> None:
    """Its Service is a load balancer with no address on the internet."""
    (service,) = (one for one in of_kind(example(name), "Service") if component(one) == "gateway")
    assert service["spec"]["type"] == "LoadBalancer"
    assert "internal" in str(service["metadata"]["annotations"]).lower()


def test_openshift_assigns_users_groups_and_volumes() -> None:
    """No pod names a user or a group, each is restricted otherwise, and mounts what restricted-v2 lets it."""
    found = pods(example("openshift"))
    assert {pod.component for pod in found} >= {*ROLES, "coordinator", "gateway", "exporter", "redis", "download"}
    for pod in found:
        contexts = [pod.spec["securityContext"], *(one["securityContext"] for one in pod.containers)]
        assert not [
            one for one in contexts if {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"} & one.keys()
        ]
        kinds = {kind for volume in pod.spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= ALLOWED_BY_SCC
        assigned = {"securityContext": contexts[0] | {"runAsUser": 1000690000}}
        assert security.faults(Pod(pod.owner, pod.metadata, pod.spec | assigned)) == []


def test_openshifts_dns_router_and_prometheus_get_through() -> None:
    """They have other ports and namespaces than elsewhere."""
    found = example("openshift")
    policies = of_kind(found, "NetworkPolicy")
    dns = Place("openshift-dns", {})
    monitoring = Place("openshift-user-workload-monitoring", {})
    for pod in pods(found):
        place = Place("gsi", pod.labels, tuple(pod.containers))
        if pod.component != "redis":
            assert may_connect(policies, place, dns, 5353, "UDP"), pod.name
        if pod.component in {*ROLES, "coordinator", "exporter", "gateway"}:
            assert may_connect(policies, monitoring, place, 9464), pod.name
            assert not may_connect(policies, Place("monitoring", {}), place, 9464), pod.name
    (peers,) = (one["spec"]["ingress"][0]["from"] for one in policies if one["metadata"]["name"] == "gsi-gateway")
    assert {"policy-group.network.openshift.io/ingress": ""} in [
        peer["namespaceSelector"]["matchLabels"] for peer in peers if "namespaceSelector" in peer
    ]


def test_slices_of_mig_fit_on_one_gpu_and_hold_their_models() -> None:
    """Each model asks for one slice by its name; together they have at most 7 compute slices and 80 GB."""
    found = models(example("mig"))
    slices = {role: next(iter(gpus(pod))) for role, pod in found.items()}
    sizes = {role: tuple(map(int, OF_MIG.fullmatch(name).groups())) for role, name in slices.items()}  # type: ignore[union-attr]  # a name that does not match is a fault
    assert all(gpus(pod) == {slices[role]: 1} for role, pod in found.items())
    assert sum(compute for compute, _ in sizes.values()) <= 7
    assert sum(gigabytes for _, gigabytes in sizes.values()) <= 80
    for role, pod in found.items():
        room = float(engine_argument(pod, "--gpu-memory-utilization")) * sizes[role][1] * 1e9
        assert weight_bytes(pod) + BESIDE_WEIGHTS < room, role


def test_shares_of_mps_hold_their_models() -> None:
    """MPS gives each of three pods a third of the memory, and its own /dev/shm, over which nothing is mounted."""
    found = models(example("mps"))
    assert len(found) == SHARES
    third = 80e9 / SHARES
    for role, pod in found.items():
        assert gpus(pod) == {"nvidia.com/gpu.shared": 1}
        cache = int(engine_argument(pod, "--kv-cache-memory-bytes").removesuffix("G")) * 1e9
        assert weight_bytes(pod) + cache + BESIDE_WEIGHTS < third, role
        assert float(engine_argument(pod, "--gpu-memory-utilization")) * 80e9 < third
        assert "/dev/shm" not in {mount["mountPath"] for mount in pod.container()["volumeMounts"]}
    assert f"replicas: {SHARES}}}" in examples()["mps"].read_text(encoding="utf-8")
    users = {pod.spec["securityContext"]["runAsUser"] for pod in found.values()}
    assert len(users) == 1  # an MPS server is one user's


def test_without_the_internet_nothing_leads_out() -> None:
    """Images are the mirror's, models the volume's; no variable has another host, and nothing may leave the cluster."""
    found = example("air-gapped")
    policies, outside = of_kind(found, "NetworkPolicy"), Place("somewhere-else", {})
    assert {component(one) for one in of_kind(found, "Job")} == {"queue"}
    for pod in pods(found):
        assert pod.spec["imagePullSecrets"] == [{"name": "registry"}]
        place = Place("gsi", pod.labels, tuple(pod.containers))
        assert (
            not any(may_connect(policies, place, outside, port) for port in (80, 443, 5000)) or pod.component == "redis"
        )
        for container in pod.containers:
            assert container["image"].startswith("registry.internal.example:5000/"), pod.name
            urls = re.findall(r"://([^/:]+)", str([container.get("env"), container.get("command")]))
            assert all(host.endswith(".svc") or host.startswith("127.") for host in urls), (pod.name, urls)
    for role, pod in models(found).items():
        variables = environment(pod.container())
        assert variables[f"GSI_{role.upper()}_MODEL"].startswith("/cache/")
        offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        assert offline.items() <= variables.items()
        claims = [
            one["persistentVolumeClaim"]["claimName"]
            for one in pod.spec["volumes"]
            if len(one) > 1 and "persistentVolumeClaim" in one
        ]
        assert claims == ["checkpoints"]


def _may_run_on(pod: Pod, labels: dict[str, str]) -> bool:
    """Return whether a pod's required node affinity takes a node with these labels."""
    terms = pod.spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    def holds(one: dict[str, Any]) -> bool:
        return bool(labels.get(one["key"]) in one["values"]) is (one["operator"] == "In")

    return any(all(map(holds, term["matchExpressions"])) for term in terms)


def test_only_models_run_on_spot_nodes() -> None:
    """On those of each cloud, with its taint; what holds the queue or the callers' connections is elsewhere."""
    found = pods(example("spot"))
    for pod in found:
        if pod.component in ROLES:
            assert all(_may_run_on(pod, {label: value}) for label, value in SPOT.items())
            assert not _may_run_on(pod, {})
            tolerated = {one["key"]: one.get("value") for one in pod.spec["tolerations"]}
            assert TAINTS.items() <= tolerated.items()
        elif pod.component in {"coordinator", "gateway", "exporter", "redis"}:
            assert not any(_may_run_on(pod, {label: value}) for label, value in SPOT.items())
            assert _may_run_on(pod, {})


def test_a_pod_on_a_spot_node_stops_within_the_notice() -> None:
    """Its calls have a grace that ends before the kill; another replica is there, and no disk is lost with a node."""
    found = example("spot")
    for role, pod in models(found).items():
        grace = float(environment(pod.container())[f"GSI_{role.upper()}_GRACE_SECONDS"])
        pause = float(environment(pod.container())[f"GSI_{role.upper()}_DRAIN_PAUSE_SECONDS"])
        assert pause + grace < pod.spec["terminationGracePeriodSeconds"] <= NOTICE_OF_GKE
        assert pod.owner["spec"]["replicas"] == 2
    (claim,) = of_kind(found, "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


APPLIED: dict[str, Any] = yaml.safe_load((FOLDER / APPLICATION).read_text(encoding="utf-8"))


def test_the_application_renders_the_example() -> None:
    """The same files in the same order, the same names, and this version of the chart."""
    source = APPLIED["spec"]["source"]
    command = command_of("argo-cd")
    assert tuple(CHART / name for name in source["helm"]["valueFiles"]) == command.values
    assert (source["helm"]["releaseName"], APPLIED["spec"]["destination"]["namespace"]) == (
        command.release,
        command.namespace,
    )
    assert APPLIED["metadata"]["name"] == command.release
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"]
    assert source["targetRevision"] == f"v{version}"


def test_argo_cd_leaves_scaled_deployments_their_pods() -> None:
    """The differences that it ignores are the replicas of what a scaler scales, and no others."""
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind(example("argo-cd"), "ScaledObject")}
    assert len(scaled) == 2
    ignored = APPLIED["spec"]["ignoreDifferences"]
    assert {one["name"] for one in ignored} == scaled
    assert all(one["jsonPointers"] == ["/spec/replicas"] for one in ignored)
    assert "RespectIgnoreDifferences=true" in APPLIED["spec"]["syncPolicy"]["syncOptions"]
    minimum = {
        one["metadata"]["name"]: one["spec"]["minReplicaCount"] for one in of_kind(example("argo-cd"), "ScaledObject")
    }
    rendered = {one["metadata"]["name"]: one["spec"]["replicas"] for one in of_kind(example("argo-cd"), "Deployment")}
    assert minimum.items() <= rendered.items()
    assert min(minimum.values()) == 1


def test_argo_cd_runs_every_hook_but_the_tests() -> None:
    """It knows our hooks and their policy; what it leaves out are the pods of ``helm test``."""
    hooks: dict[str, set[str]] = {}
    for one in example("argo-cd"):
        annotations = one["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            hooks[name_of(one)] = set(annotations["helm.sh/hook"].split(","))
            assert "before-hook-creation" in annotations["helm.sh/hook-delete-policy"]
    assert hooks["Job/gsi-queue"] == {"post-install", "post-upgrade"}
    left_out = {name for name, events in hooks.items() if not events <= HOOKS_OF_ARGO_CD}
    assert left_out
    assert all(hooks[name] == {"test"} for name in left_out)


def test_argo_cd_keeps_checkpoints_and_says_how_models_are_replaced() -> None:
    """Pruning would delete a claim of another name; without the cluster's word the strategy is in the values."""
    found = example("argo-cd")
    (claim,) = of_kind(found, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false"
    for pod in models(found).values():
        strategy = pod.owner["spec"]["strategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def trios() -> dict[str, list[Object]]:
    """Return what the releases of the guide render, by their queue."""
    found = {name: example(name) for name in examples() if name.startswith("several-trios")}
    return {variable(each, "coordinator", "GSI_COORDINATOR_QUEUE"): each for each in found.values()}


def variable(found: list[Object], name: str, key: str) -> str:
    (pod,) = (pod for pod in pods(found) if pod.component == name and pod.owner["kind"] == "Deployment")
    return environment(pod.container())[key]


def test_one_gateway_names_the_queue_of_each_release(tmp_path: Path) -> None:
    """The releases share one Redis and nothing else: each has a queue and objects of its own."""
    found = trios()
    assert len(found) == 2
    assert len({variable(each, "coordinator", "GSI_COORDINATOR_REDIS_URL") for each in found.values()}) == 1
    assert len({variable(each, "coordinator", "GSI_COORDINATOR_TARGET") for each in found.values()}) == 2
    names = [name_of(one) for each in found.values() for one in each]
    assert len(names) == len(set(names))
    gateways = [each for each in found.values() if "gateway" in {pod.component for pod in pods(each)}]
    assert len(gateways) == 1
    (presets,) = (
        one["data"]["presets.toml"] for one in of_kind(gateways[0], "ConfigMap") if "presets.toml" in one["data"]
    )
    (tmp_path / "presets.toml").write_text(presets)
    assert {preset.queue for preset in load_presets(tmp_path / "presets.toml", "none").values()} == set(found)
