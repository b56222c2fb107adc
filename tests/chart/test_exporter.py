"""The exporter as a component: it reads the coordinators' queue, and is scraped whether or not they run."""

from tests.chart.network import selects
from tests.chart.pods import Pod, pod_of
from tests.chart.rendering import component, objects, objects_with, of_kind


def environment(pod: Pod) -> dict[str, str | None]:
    return {one["name"]: one.get("value") for one in pod.container()["env"]}


def test_it_reads_the_coordinators_queue() -> None:
    """By the same name and at the same place, and its pod's label is what a series is told apart by."""
    found = objects("everything")
    exporter, coordinator = pod_of(found, "exporter"), pod_of(found, "coordinator")
    assert environment(exporter)["GSI_EXPORTER_QUEUE"] == environment(coordinator)["GSI_COORDINATOR_QUEUE"] == "maths"
    assert exporter.labels["gsi/queue"] == coordinator.labels["gsi/queue"]
    assert environment(exporter)["GSI_EXPORTER_REDIS_URL"] == environment(coordinator)["GSI_COORDINATOR_REDIS_URL"]


def test_it_is_there_while_coordinators_are_scaled_to_zero() -> None:
    """No scaler has it; it is scraped by the same PodMonitor; without it, nothing of it is left."""
    found = objects("everything")
    scaled = {
        one["spec"]["scaleTargetRef"]["name"] for one in of_kind(found, "ScaledObject", "HorizontalPodAutoscaler")
    }
    exporter = pod_of(found, "exporter")
    assert exporter.owner["metadata"]["name"] not in scaled
    assert exporter.owner["spec"]["replicas"] == 1
    (monitor,) = of_kind(found, "PodMonitor")
    assert selects(monitor["spec"]["selector"], exporter.labels)
    assert "exporter" not in {component(one) for one in objects_with("cpu", {"exporter": {"enabled": False}})}


def test_it_has_a_redis_user_of_its_own() -> None:
    """One that only reads, where the values name one."""
    exporter = pod_of(objects("everything-else"), "exporter")
    assert environment(exporter)["GSI_EXPORTER_REDIS_URL"] == "rediss://gsi-exporter@redis.example:6380/0"
    (password,) = (one for one in exporter.spec["volumes"] if one["name"] == "redis-password")
    assert password["secret"]["secretName"] == "exporter-queue"
