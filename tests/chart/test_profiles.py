"""What each profile promises of itself."""

import re
import shlex

import pytest

from tests.chart.pods import Pod, pods
from tests.chart.rendering import CHART, Object, component, objects, objects_with, of_kind
from tests.chart.test_settings import environment

ROLES = ("draft", "target", "prm")


def models(found: list[Object]) -> dict[str, Pod]:
    running = [pod for pod in pods(found) if pod.owner["kind"] in {"Deployment", "StatefulSet"}]
    return {pod.component: pod for pod in running if pod.component in ROLES}


def engine_argument(pod: Pod, name: str) -> str:
    """Return the value of one of the engine's arguments."""
    words = shlex.split(environment(pod.container())[f"GSI_{pod.component.upper()}_ENGINE_ARGS"])
    return words[words.index(name) + 1]


def gpus(pod: Pod) -> dict[str, int]:
    limits = pod.container()["resources"]["limits"]
    return {name: int(count) for name, count in limits.items() if "/" in name}


def test_the_laptops_profile_needs_nothing_but_the_images() -> None:
    """No GPU, no download, no volume of models, on any network; and little memory."""
    found = objects("cpu")
    assert of_kind(found, "PersistentVolumeClaim") == []
    assert {component(one) for one in of_kind(found, "Job")} == {"queue"}
    for role, pod in models(found).items():
        assert gpus(pod) == {}
        assert environment(pod.container())[f"GSI_{role.upper()}_MODEL"] == f"/app/models/{role}"
        assert environment(pod.container())["HF_HUB_OFFLINE"] == "1"


def test_three_engines_share_one_gpu_by_fractions_of_its_memory() -> None:
    """Their sum leaves room, and each asks for a share of one and the same GPU."""
    found = models(objects("single-gpu"))
    assert {str(gpus(pod)) for pod in found.values()} == {"{'nvidia.com/gpu.shared': 1}"}
    fractions = [float(engine_argument(pod, "--gpu-memory-utilization")) for pod in found.values()]
    assert sum(fractions) <= 0.9


def test_the_papers_models_have_a_gpu_each() -> None:
    """Source: the GSI paper, section 4: "Models" and "Hyperparameters"."""
    found = models(objects("qwen2.5-math"))
    names = {role: environment(pod.container())[f"GSI_{role.upper()}_MODEL"] for role, pod in found.items()}
    assert names == {
        "draft": "Qwen/Qwen2.5-Math-1.5B-Instruct",
        "target": "Qwen/Qwen2.5-Math-7B-Instruct",
        "prm": "Qwen/Qwen2.5-Math-PRM-7B",
    }
    assert {str(gpus(pod)) for pod in found.values()} == {"{'nvidia.com/gpu': 1}"}
    assert environment(found["target"].container())["GSI_TARGET_TEMPERATURE"] == "0.7"


def test_the_large_target_is_cut_over_gpus_and_over_nodes() -> None:
    """On one node, and on two by the command that the profile's first lines say."""
    one = models(objects("72b"))["target"]
    assert one.owner["kind"] == "Deployment"
    assert gpus(one) == {"nvidia.com/gpu": int(engine_argument(one, "--tensor-parallel-size"))}
    written = (CHART / "values-72b.yaml").read_text()
    nodes, count = (int(found) for found in re.findall(r"--set target\.(?:nodes|gpu)\.count=(\d+)", written))
    assert "--set modelCache.accessModes={ReadWriteMany} --set modelCache.storageClassName=CLASS" in written
    cut = {"target": {"nodes": {"count": nodes}, "gpu": {"count": count}}}
    shared = {"modelCache": {"accessModes": ["ReadWriteMany"], "storageClassName": "CLASS"}}
    several = models(objects_with("72b", cut | shared))["target"]
    assert several.owner["kind"] == "StatefulSet"
    assert several.owner["spec"]["replicas"] == nodes == int(engine_argument(several, "--nnodes"))
    assert nodes * gpus(several)["nvidia.com/gpu"] == int(engine_argument(several, "--tensor-parallel-size"))
    assert engine_argument(several, "--node-rank") == "$(POD_INDEX)"
    (index,) = (one for one in several.container()["env"] if one["name"] == "POD_INDEX")
    assert "pod-index" in index["valueFrom"]["fieldRef"]["fieldPath"]


@pytest.mark.parametrize("profile", ["single-gpu", "qwen2.5-math", "llama-skywork", "qwen3", "72b"])
def test_models_are_downloaded_once_and_served_offline(profile: str) -> None:
    """By a Job each into the volume that the pods mount; a pod waits for its own; the volume outlives the release."""
    found = objects(profile)
    jobs = [one for one in of_kind(found, "Job") if component(one) == "download"]
    assert len(jobs) == len(ROLES)
    (claim,) = of_kind(found, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for pod in models(found).values():
        assert environment(pod.container())["HF_HUB_OFFLINE"] == "1"
        assert [container["name"] for container in pod.spec["initContainers"]] == ["wait-for-model"]
        claims = [
            one["persistentVolumeClaim"]["claimName"] for one in pod.spec["volumes"] if "persistentVolumeClaim" in one
        ]
        assert claims == [claim["metadata"]["name"]]


@pytest.mark.parametrize("profile", ["single-gpu", "qwen2.5-math", "llama-skywork", "qwen3", "72b"])
def test_pods_with_gpus_bear_the_taint_of_gpu_nodes(profile: str) -> None:
    """Few clusters add the toleration themselves, and then it is the resource's name: not so for a shared GPU."""
    for pod in models(objects(profile)).values():
        assert {"key": "nvidia.com/gpu", "operator": "Exists"} in pod.spec["tolerations"]


def test_a_download_can_go_to_a_mirror() -> None:
    """Many clusters reach no public hub: the download's own variables name another, with a token by reference alone."""
    found = objects("everything")
    downloads = [pod for pod in pods(found) if pod.component == "download"]
    assert downloads
    for pod in downloads:
        assert environment(pod.container())["HF_ENDPOINT"] == "https://models.example:8443"
        assert environment(pod.container())["SSL_CERT_FILE"] == "/ca/ca.crt"
        assert {"name": "ca", "mountPath": "/ca", "readOnly": True} in pod.container()["volumeMounts"]


def test_another_revision_is_another_download() -> None:
    """A Job cannot be changed, so one that is to do something else has another name; the same one keeps its own."""

    def names(revision: str) -> set[str]:
        found = objects_with("qwen2.5-math", {"draft": {"model": {"revision": revision}}})
        return {one["metadata"]["name"] for one in of_kind(found, "Job") if component(one) == "download"}

    assert len(names("a" * 40) & names("b" * 40)) == len(ROLES) - 1
    assert names("a" * 40) == names("a" * 40)


def test_certificates_name_every_host_that_is_called() -> None:
    """Else a coordinator would refuse the service behind it."""
    found = objects("everything")
    certificates = [each["spec"] for each in of_kind(found, "Certificate")]
    (coordinator,) = (pod for pod in pods(found) if pod.component == "coordinator")
    variables = environment(coordinator.container())
    hosts = {variables[f"GSI_COORDINATOR_{role.upper()}"].partition(":")[0] for role in ROLES}
    assert len(hosts) == len(ROLES)
    of_services = [each for each in certificates if hosts & set(each["dnsNames"])]
    assert hosts <= {name for each in of_services for name in each["dnsNames"]}
    assert all("server auth" in each["usages"] and "client auth" not in each["usages"] for each in of_services)
    (of_coordinator,) = (each for each in certificates if "client auth" in each["usages"])
    assert of_coordinator not in of_services
