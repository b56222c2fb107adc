"""A cluster that Helm can look into: as much of Kubernetes' API as the template function ``lookup`` asks for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from tests.chart.rendering import CHART, NAMESPACE, PROFILES, RELEASE, Object, helm

LOOKED_UP = ("Deployment", "StatefulSet")
KINDS = {  # that Helm must know to be of this cluster
    "v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Service", "ServiceAccount"),
    "apps/v1": LOOKED_UP,
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("Job",),
    "keda.sh/v1alpha1": ("ScaledObject", "TriggerAuthentication"),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
}


@contextmanager
def cluster(found: Sequence[Object]) -> Iterator[str]:
    """Serve the Deployments and StatefulSets among some objects; yield the server's URL."""
    documents = _documents([one for one in found if one["kind"] in LOOKED_UP])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            known = path in documents
            body = json.dumps(documents[path] if known else _not_found(path)).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def upgraded(
    running: Sequence[Object], profile: str, values: Mapping[str, Any], folder: Path, version: str = "4.3"
) -> str:
    """Return what Helm would send to a cluster in which these objects run; a refusal's words if it refuses."""
    with cluster(running) as url:
        write_kubeconfig(folder / "config", url)
        arguments = ("template", RELEASE, CHART, "--namespace", NAMESPACE, "--is-upgrade")
        asking = ("--dry-run=server", "--disable-openapi-validation", "--kubeconfig", folder / "config")
        more = (*asking, "--values", PROFILES[profile], "--values", "-")
        done = helm(version, *arguments, *more, stdin=json.dumps(values))
    return done.stderr if done.returncode else done.stdout


def write_kubeconfig(path: Path, url: str) -> None:
    """Write what makes Helm ask this server."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(config))


def _documents(found: Sequence[Object]) -> dict[str, Any]:
    documents: dict[str, Any] = {
        "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [_group(version) for version in KINDS if "/" in version]},
    }
    for version, kinds in KINDS.items():
        resources = [
            {"name": _plural(kind), "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
            for kind in kinds
        ]
        folder = f"/apis/{version}" if "/" in version else f"/api/{version}"
        documents[folder] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    for kind in LOOKED_UP:
        of_kind = [one for one in found if one["kind"] == kind]
        for namespace in {one["metadata"]["namespace"] for one in found}:
            folder = f"/apis/apps/v1/namespaces/{namespace}/{_plural(kind)}"
            documents[folder] = {"apiVersion": "apps/v1", "kind": f"{kind}List", "metadata": {}, "items": of_kind}
            documents |= {f"{folder}/{one['metadata']['name']}": one for one in of_kind}
    return documents


def _plural(kind: str) -> str:
    lower = kind.lower()
    return f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}es" if lower.endswith("s") else f"{lower}s"


def _group(version: str) -> dict[str, Any]:
    name, number = version.split("/")
    known = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [known], "preferredVersion": known}


def _not_found(path: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "code": 404,
        "message": path,
    }
