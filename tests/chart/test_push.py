"""`make chart-push`: Helm logs in to a registry and pushes the chart. The registry here knows what a push needs."""

import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.certificates import Authority, Paths

ROOT = Path(__file__).parents[2]
HELM = ROOT / ".tools" / "bin" / "helm-3.17"
PUSH = ROOT / "scripts" / "push_chart.sh"
USER, PASSWORD = "robot", "a password"
TLS_HANDSHAKE = b"\x16"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


class Registry(BaseHTTPRequestHandler):
    """The part of the OCI distribution specification that a push uses; for one user with a password.

    With and without TLS on one port: with a registry on localhost, Helm logs in by HTTPS and pushes by HTTP.
    """

    tls: ssl.SSLContext
    blobs: dict[str, bytes]
    manifests: dict[str, bytes]

    def setup(self) -> None:
        if self.request.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:
            self.request = self.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the server closes the plain socket alone

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the library's)
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(200)

    def do_HEAD(self) -> None:
        self._answer(200 if urlsplit(self.path).path.rpartition("/")[2] in self.blobs else 404)

    def do_POST(self) -> None:
        self._answer(202, Location=f"{self.path}an-upload")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        parts = urlsplit(self.path)
        if "/manifests/" in parts.path:
            self.manifests[parts.path] = content
        else:
            assert parse_qs(parts.query)["digest"] == [digest]
            self.blobs[digest] = content
        self._answer(201, **{"Docker-Content-Digest": digest})

    def _answer(self, status: int, **headers: str) -> None:
        known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {known}":
            status, headers = 401, {"WWW-Authenticate": 'Basic realm="registry"'}
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def certificate(tmp_path: Path) -> Paths:
    return Authority(tmp_path).issue("registry")


@pytest.fixture
def registry(certificate: Paths) -> Iterator[tuple[str, type[Registry]]]:
    """Its address, and what it has been given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    kind = type("Kept", (Registry,), {"tls": context, "blobs": {}, "manifests": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"localhost:{server.server_port}", kind
        server.shutdown()


def test_the_chart_is_pushed_and_its_digest_printed(
    tmp_path: Path, certificate: Paths, registry: tuple[str, type[Registry]]
) -> None:
    """As the workflow calls it: the digest is what cosign signs, with the credentials that the push has left for it."""
    address, kept = registry
    subprocess.run(
        [HELM, "package", ROOT / "helm", "--destination", tmp_path / "dist"], check=True, capture_output=True
    )
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "SSL_CERT_FILE": str(certificate.authority),
        "REGISTRY_USER": USER,
        "REGISTRY_PASSWORD": PASSWORD,
    }
    command = ["sh", str(PUSH), str(HELM), address, "somebody/gsi"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    ((place, manifest),) = kept.manifests.items()
    version = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text())["version"]
    assert place == f"/v2/somebody/gsi/charts/gsi/manifests/{version}"
    assert ran.stdout == f"digest=sha256:{hashlib.sha256(manifest).hexdigest()}\n"
    (chart,) = (layer for layer in json.loads(manifest)["layers"] if layer["mediaType"] == CHART_LAYER)
    assert kept.blobs[chart["digest"]] == (tmp_path / "dist" / f"gsi-{version}.tgz").read_bytes()
    assert address in json.loads((tmp_path / ".docker" / "config.json").read_text())["auths"]


def test_a_push_that_fails_fails_the_release(tmp_path: Path, registry: tuple[str, type[Registry]]) -> None:
    """Nothing is printed that cosign could sign; Helm's message is on standard error."""
    address, _ = registry
    helm = tmp_path / "helm"
    helm.write_text('#!/bin/sh\n[ "$1" = registry ] && exit 0\necho "denied by the registry" >&2\nexit 1\n')
    helm.chmod(0o755)
    environment = {**os.environ, "REGISTRY_USER": USER, "REGISTRY_PASSWORD": PASSWORD}
    command = ["sh", str(PUSH), str(helm), address, "somebody/gsi"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "denied by the registry" in ran.stderr
