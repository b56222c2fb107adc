"""The fields of an object that an upgrade cannot change: the API server refuses, and with it the whole upgrade.

No schema says which they are. Source: the validation of updates in Kubernetes (pkg/apis/*/validation), for the oldest
version that the chart is for: later ones allow a StatefulSet's ``revisionHistoryLimit``.
"""

from collections.abc import Iterable
from typing import Any

from tests.chart.rendering import Object, name_of

FIELDS: dict[str, tuple[str, ...]] = {
    "Deployment": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates", "revisionHistoryLimit"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName", "volumeName", "selector", "volumeMode", "dataSource"),
    "Service": ("clusterIP", "ipFamilies"),
    "Job": ("selector", "template", "completions", "completionMode"),
}
CHANGEABLE = {  # every field of their spec
    "Certificate",
    "ConfigMap",
    "CronJob",
    "HTTPRoute",
    "HorizontalPodAutoscaler",
    "Ingress",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "ServiceAccount",
    "TriggerAuthentication",
}


def immutable_fields(found: Iterable[Object]) -> dict[str, Any]:
    """Return them by the objects' names; hooks are left out, which Helm deletes before it makes them again."""
    return {
        name_of(one): {field: one["spec"].get(field) for field in FIELDS[one["kind"]]}
        for one in found
        if one["kind"] in FIELDS and not is_hook(one)
    }


def is_hook(one: Object) -> bool:
    """Return whether Helm makes the object anew each time."""
    return "helm.sh/hook" in one["metadata"].get("annotations", {})
