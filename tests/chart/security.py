"""What every container of the chart must be: the rules of Kubernetes' *restricted* pod security standard, and more.

Source of the first: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.chart.pods import Container, Pod

OWN_UID = 10001
IMAGE = re.compile(r"^[a-z0-9][a-z0-9._/:-]*?(:(?P<tag>[\w][\w.-]*))?(@sha256:(?P<digest>[0-9a-f]{64}))?$")
SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|API_?KEY|CREDENTIAL", re.IGNORECASE)
IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")  # user:password@


def faults(pod: Pod) -> list[str]:
    """Return what is wrong with a pod, in words."""
    found = list(_of_pod(pod.spec))
    for container in pod.containers:
        reasons = [*_of_rights(pod.spec, container), *_of_image(container), *_of_resources(container)]
        reasons += _of_secrets(container)
        found += [f"{container['name']}: {reason}" for reason in reasons]
    return [f"{pod.name}: {fault}" for fault in found]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod has a service account's token"
    for shared in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(shared):
            yield shared
    for volume in spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a folder of the node"
    if spec.get("enableServiceLinks", True) is not False:
        yield "every Service of the namespace is written into the environment"


def _of_rights(spec: dict[str, Any], container: Container) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = spec.get("securityContext", {}) | own
    if both.get("runAsNonRoot") is not True or both.get("runAsUser", 0) == 0:
        yield "may run as root"
    if both.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccomp is not RuntimeDefault"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write its root file system"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may gain privileges"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"


def _of_image(container: Container) -> Iterator[str]:
    match = IMAGE.match(container["image"])
    if match is None or not (match["tag"] or match["digest"]):
        yield f"image {container['image']} has neither tag nor digest"
    elif match["tag"] == "latest":
        yield f"image {container['image']} is another one tomorrow"


def _of_resources(container: Container) -> Iterator[str]:
    resources = container.get("resources", {})
    for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if name not in resources.get(kind, {}):
            yield f"no {kind} of {name}"


def _of_secrets(container: Container) -> Iterator[str]:
    for variable in container.get("env", []):
        name, value = variable["name"], str(variable.get("value", ""))
        if SECRET_NAME.search(name) and value and not name.endswith("_FILE"):
            yield f"{name} holds its secret itself"
        if IN_URL.search(value):
            yield f"{name} has a password in its URL"
    for word in [*container.get("command", []), *container.get("args", [])]:
        if IN_URL.search(word) or re.search(r"--?(requirepass|a|pass|password)\b[ =]\S", word):
            yield "a password is among its arguments"
