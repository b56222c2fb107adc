"""Every pod that a set of objects would make, whatever makes it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chart.rendering import Object, name_of

Container = dict[str, Any]
WITH_TEMPLATE = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}


@dataclass(frozen=True)
class Pod:
    """A pod's template, and who makes it."""

    owner: Object
    metadata: Mapping[str, Any]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return name_of(self.owner)

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.metadata.get("labels", {})
        return labels

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def containers(self) -> list[Container]:
        """Those that start the pod, too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self) -> Container:
        """Return the one that does the work."""
        container: Container = self.spec["containers"][0]
        return container


def pods(objects: list[Object]) -> list[Pod]:
    return list(_pods(objects))


def _pods(objects: list[Object]) -> Iterator[Pod]:
    for owner in objects:
        if owner["kind"] == "Pod":
            yield Pod(owner, owner["metadata"], owner["spec"])
        elif owner["kind"] == "CronJob":
            template = owner["spec"]["jobTemplate"]["spec"]["template"]
            yield Pod(owner, template.get("metadata", {}), template["spec"])
        elif owner["kind"] in WITH_TEMPLATE:
            template = owner["spec"]["template"]
            yield Pod(owner, template.get("metadata", {}), template["spec"])
        else:
            assert "template" not in owner.get("spec", {}), f"{name_of(owner)} makes pods that nobody looks at"


def pod_of(objects: list[Object], component: str) -> Pod:
    """Return the only pod of a component that is kept running."""
    (found,) = (
        pod
        for pod in pods(objects)
        if pod.component == component and pod.owner["kind"] in {"Deployment", "StatefulSet"}
    )
    return found
