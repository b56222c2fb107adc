"""The gateway as a component: keys, presets, files, the ways in, and who reaches it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from services.gateway.presets import BUILT_IN, load_presets
from tests.chart.network import Place, may_connect
from tests.chart.pods import Pod, pod_of, pods
from tests.chart.rendering import NAMESPACE, PROFILES, Object, component, objects, objects_with, of_kind

HTTP = 8000


def environment(pod: Pod) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in pod.container()["env"]}


def presets_of(found: list[Object]) -> str:
    (config,) = (one for one in of_kind(found, "ConfigMap") if one["metadata"]["name"].endswith("-presets"))
    text: str = config["data"]["presets.toml"]
    return text


@pytest.mark.parametrize("profile", PROFILES)
def test_a_request_needs_a_key(profile: str) -> None:
    """It listens on every address of its pod, so that keys are always on."""
    variables = environment(pod_of(objects(profile), "gateway"))
    assert variables["GSI_GATEWAY_LISTEN"] == f"0.0.0.0:{HTTP}"
    assert variables["GSI_GATEWAY_KEYS"] == "true"


def test_it_can_be_left_out() -> None:
    """With everything that belongs to it, its test and its way to Redis."""
    found = objects_with("everything", {"gateway": {"enabled": False}})
    parts = {component(one) for one in objects("everything")} - {component(one) for one in found}
    assert parts == {"gateway", "first-request"}
    left = [one for one in found if one["metadata"]["name"].endswith("-gateway") and component(one) != "monitoring"]
    assert left == []


def test_the_presets_are_a_file_of_the_pod(tmp_path: Path) -> None:
    """The TOML of the values is read by the gateway's own reader, and a changed file replaces the pod."""
    found = objects("everything")
    path = tmp_path / "presets.toml"
    path.write_text(presets_of(found))
    assert {name: preset.queue for name, preset in load_presets(path, "default").items()} == {"maths": "maths"}
    pod = pod_of(found, "gateway")
    mounts = {one["name"]: one["mountPath"] for one in pod.container()["volumeMounts"]}
    assert environment(pod)["GSI_GATEWAY_PRESETS"] == f"{mounts['presets']}/presets.toml"
    other = pod_of(objects_with("everything", {"gateway": {"presets": "[models.a]"}}), "gateway")
    assert pod.metadata["annotations"]["gsi/presets"] != other.metadata["annotations"]["gsi/presets"]


def test_the_built_in_presets_ask_for_the_engines_temperature() -> None:
    """vLLM refuses a job that asks for another one; with the values of a job's defaults no file is needed."""
    assert "GSI_GATEWAY_PRESETS" not in environment(pod_of(objects("cpu"), "gateway"))
    changed = objects_with("cpu", {"sampling": {"temperature": 0.9, "likelihood": "model"}})
    written = tomllib.loads(presets_of(changed))["models"]
    assert {name: params["params"]["method"] for name, params in written.items()} == {
        name: given["params"]["method"] for name, given in BUILT_IN.items()
    }
    asked = {(each["params"]["temperature"], each["params"]["likelihood"]) for each in written.values()}
    assert asked == {(0.9, "model")}


def test_files_are_on_a_volume_in_a_bucket_or_nowhere() -> None:
    """A bucket's credentials come from a Secret, and the policy lets HTTPS out to it."""
    assert "GSI_GATEWAY_FILES" not in environment(pod_of(objects("cpu"), "gateway"))
    on_volume = pod_of(objects("everything"), "gateway")
    mounts = {one["mountPath"]: one["name"] for one in on_volume.container()["volumeMounts"]}
    claims = {one["name"]: one.get("persistentVolumeClaim") for one in on_volume.spec["volumes"]}
    assert claims[mounts[environment(on_volume)["GSI_GATEWAY_FILES"]]] == {"claimName": "gsi-speculation-files"}
    found = objects("everything-else")
    in_bucket = pod_of(found, "gateway")
    assert environment(in_bucket)["GSI_GATEWAY_FILES"] == "s3://bucket/gsi"
    bucket = Place("elsewhere", {})
    source = Place(NAMESPACE, in_bucket.labels)
    assert may_connect(of_kind(found, "NetworkPolicy"), source, bucket, 443)
    assert not may_connect(of_kind(objects("cpu"), "NetworkPolicy"), source, bucket, 443)


def test_it_has_a_redis_user_of_its_own() -> None:
    """Where the values name one: the gateway reads its own Secret, and the coordinator the common one."""
    found = objects("everything-else")
    for name, expected in (("gateway", "gateway-queue"), ("coordinator", "queue-address")):
        pod = pod_of(found, name)
        sources = {
            one["name"]: one["valueFrom"]["secretKeyRef"]["name"]
            for one in pod.container()["env"]
            if "REDIS_URL" in one["name"]
        }
        assert set(sources.values()) == {expected}, name
        (password,) = (one for one in pod.spec["volumes"] if one["name"] == "redis-password")
        assert password["secret"]["secretName"] == ("gateway-queue" if name == "gateway" else "queue-password")


@pytest.mark.parametrize("profile", PROFILES)
def test_who_may_call_it(profile: str) -> None:
    """Everybody, since it asks for keys, or those whom the values name; the chart's own test always."""
    found = objects(profile)
    rules = of_kind(found, "NetworkPolicy")
    gateway = pod_of(found, "gateway")
    target = Place(NAMESPACE, gateway.labels, tuple(gateway.containers))
    stranger, ingress = Place("elsewhere", {}), Place("ingress-nginx", {})
    (test,) = (Place(NAMESPACE, pod.labels) for pod in pods(found) if pod.component == "first-request")
    assert may_connect(rules, ingress, target, HTTP)
    assert may_connect(rules, test, target, HTTP)
    assert may_connect(rules, stranger, target, HTTP) is (profile != "everything")
    assert not may_connect(rules, stranger, target, 9464)


def test_an_ingress_and_a_route_lead_to_its_service() -> None:
    """By the Service's name and port; a stream has no time limit on the way."""
    found = objects("everything")
    (service,) = (one for one in of_kind(found, "Service") if component(one) == "gateway")
    (ingress,) = of_kind(found, "Ingress")
    (rule,) = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert ingress["spec"]["tls"] == [{"hosts": [rule["host"]], "secretName": "gsi-example"}]
    found = objects("everything-else")
    (service,) = (one for one in of_kind(found, "Service") if component(one) == "gateway")
    (route,) = of_kind(found, "HTTPRoute")
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}]
    assert rule["timeouts"] == {"request": "0s"}
    assert not of_kind(objects("cpu"), "Ingress", "HTTPRoute")


def test_https_asks_for_no_certificate_of_its_clients() -> None:
    """A key says who asks: no authority is set. An Ingress that ends TLS can have plain HTTP behind it."""
    secured = pod_of(objects("everything"), "gateway")
    assert {"GSI_GATEWAY_TLS_CERT", "GSI_GATEWAY_TLS_KEY"} <= set(environment(secured))
    assert "GSI_GATEWAY_TLS_CA" not in environment(secured)
    assert secured.container()["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    plain = pod_of(objects_with("everything", {"gateway": {"https": False}}), "gateway")
    assert "GSI_GATEWAY_TLS_CERT" not in environment(plain)
    assert plain.container()["readinessProbe"]["httpGet"]["scheme"] == "HTTP"


def test_probes_ask_for_life_and_for_readiness() -> None:
    """A restart does not bring Redis back: only readiness depends on it."""
    container = pod_of(objects("cpu"), "gateway").container()
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}


def test_it_scales_on_cpu_and_open_requests() -> None:
    """By the name that the gateway gives to the number, streams included."""
    (scaler,) = (one for one in of_kind(objects("everything-else"), "HorizontalPodAutoscaler")
                 if component(one) == "gateway")  # fmt: skip
    metrics = {one["type"]: one for one in scaler["spec"]["metrics"]}
    assert metrics["Resource"]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 300}
    assert metrics["Pods"]["pods"]["metric"]["name"] == "gsi_gateway_open_requests"
