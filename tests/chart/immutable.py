"""The fields of an object that an upgrade cannot change: the API server refuses, and with it the whole upgrade."""

from collections.abc import Iterable
from typing import Any

from tests.chart.rendering import Object, name_of

FIELDS: dict[str, tuple[str, ...]] = {
    "Deployment": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName", "volumeName", "selector"),
    "Service": ("clusterIP",),
    "Job": ("selector", "template", "completions", "completionMode"),
}


def immutable_fields(found: Iterable[Object]) -> dict[str, Any]:
    """Return them by the objects' names; hooks are left out, which Helm deletes before it makes them again."""
    return {
        name_of(one): {field: one["spec"].get(field) for field in FIELDS[one["kind"]]}
        for one in found
        if one["kind"] in FIELDS and "helm.sh/hook" not in one["metadata"].get("annotations", {})
    }
