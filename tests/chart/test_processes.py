"""The rendered objects start the real processes: command, arguments, environment, ports, probes and mounts.

The whole release runs on this machine (``kubelet``): Redis, the hook that makes the queue, the three models, a
coordinator, a gateway, an exporter; then the chart's own test pods have a job done and a request answered.
"""

import asyncio
import ipaddress
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from gsi.jobs.connection import RedisAccess, connect
from gsi.jobs.keys import GROUP, Keys
from tests.certificates import Authority
from tests.chart.kubelet import Node, Running
from tests.chart.rendering import RELEASE, Object, objects_with, of_kind

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]  # three loads of torch

ROLES = ("draft", "target", "prm")
PROCESSES = (*ROLES, "coordinator", "gateway", "exporter")
START_SECONDS = 180.0
PASSWORD = b'correct "horse" \\ staple'
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "secured": {
        "tls": {"enabled": True, "certManager": {"issuerRef": {"name": "authority"}}},
        "redis": {"builtIn": {"passwordSecret": {"name": "queue-password"}}},
    },
}


class Release:
    """A release of the chart that runs."""

    def __init__(self, folder: Path, found: list[Object], *, has_password: bool) -> None:
        secrets = {"queue-password": {"password": PASSWORD}}
        self.node = Node(folder, found, secrets)
        secrets.update(_certificates(found, list(self.node.addresses.values()), folder))
        self.running: dict[str, Running] = {}
        self.groups_after_the_hook: dict[str, list[str]] = {}
        password = folder / "password"
        password.write_bytes(PASSWORD)
        self.redis_access = RedisAccess(password if has_password else None)

    @property
    def redis_url(self) -> str:
        return f"redis://{self.node.addresses['redis']}:6379/0"

    async def start(self) -> None:
        """Start Redis, let the hook run, start everything else at once, and wait until all is ready."""
        self.running["redis"] = await self.node.start("redis")
        hook = await self.node.start("queue")
        assert await hook.ended(START_SECONDS) == 0, hook.log.read_text()
        self.groups_after_the_hook = await self.groups()
        for name in PROCESSES:
            self.running[name] = await self.node.start(name)
        for name in PROCESSES:
            await self._wait_until_ready(name)

    async def _wait_until_ready(self, name: str) -> None:
        one = self.running[name]
        deadline = time.monotonic() + START_SECONDS
        while await one.ask("readiness") != "SERVING":
            assert one.process.returncode is None, f"{name} has ended: {one.log.read_text()}"
            assert time.monotonic() < deadline, f"{name} is not ready: {one.log.read_text()}"
            await asyncio.sleep(0.1)

    async def groups(self) -> dict[str, list[str]]:
        """Return the consumer groups of each lane."""
        redis: Any = connect(self.redis_url, self.redis_access)
        async with redis:
            return {
                lane: [group["name"].decode() for group in await redis.xinfo_groups(lane)]
                for lane in Keys(RELEASE).lanes
            }

    async def stop(self) -> None:
        for one in self.running.values():
            one.terminate()
        await asyncio.gather(*(one.ended(START_SECONDS) for one in self.running.values()))


def _certificates(found: list[Object], addresses: list[str], folder: Path) -> dict[str, dict[str, bytes]]:
    """Return the Secrets that cert-manager would make, for the addresses here besides the names that are asked for."""
    secrets, authority = {}, Authority(folder)
    for one in of_kind(found, "Certificate"):
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in one["spec"]["dnsNames"]]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        paths = authority.issue(one["metadata"]["name"], hosts=x509.SubjectAlternativeName(names))
        files = {"tls.crt": paths.chain, "tls.key": paths.key, "ca.crt": paths.authority}
        secrets[one["spec"]["secretName"]] = {name: path.read_bytes() for name, path in files.items()}
    return secrets


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=VARIANTS)
async def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Release]:
    """The laptop's profile, as it is and secured."""
    found = objects_with("cpu", VARIANTS[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    running = Release(folder, found, has_password=request.param == "secured")
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


async def test_the_hook_makes_the_queue(release: Release) -> None:
    """Before a coordinator runs: every lane has its stream and group, by the names that coordinators read."""
    assert release.groups_after_the_hook == {lane: [GROUP] for lane in Keys(RELEASE).lanes}


@pytest.mark.parametrize("name", PROCESSES)
async def test_every_probe_is_answered(release: Release, name: str) -> None:
    """On the port and by the name that the chart says, in plain text, with TLS between the processes too."""
    answers = {kind: await release.running[name].ask(kind) for kind in ("startup", "liveness", "readiness")}
    assert answers == dict.fromkeys(answers, "SERVING")


@pytest.mark.parametrize("name", PROCESSES)
async def test_metrics_are_where_prometheus_looks(release: Release, name: str) -> None:
    """The container's port of the name that the PodMonitor has."""
    one = release.running[name]
    (port,) = (port["containerPort"] for port in one.pod.container()["ports"] if port["name"] == "metrics")
    assert "\ngsi_" in await asyncio.to_thread(_read, f"http://{one.address}:{port}/metrics")


def _read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        text: bytes = answer.read()
        return text.decode()


async def test_the_charts_check_finds_that_the_models_work_together(release: Release) -> None:
    """What ``helm test`` runs first, with the coordinator's certificate where there is TLS."""
    check = await release.node.start("check")
    code = await check.ended(START_SECONDS)
    printed = check.log.read_text()
    assert code == 0, printed
    assert "0 errors" in printed


async def test_the_charts_own_test_has_a_job_done(release: Release) -> None:
    """What ``helm test`` runs: a job is pushed, followed and answered."""
    first_job = await release.node.start("test")
    code = await first_job.ended(START_SECONDS)
    printed = first_job.log.read_text()
    assert code == 0, printed
    assert "SUCCEEDED" in printed


async def test_the_charts_own_test_has_a_request_answered(release: Release) -> None:
    """What ``helm test`` runs last: a key is made, and the gateway answers, by HTTPS where there is TLS."""
    first_request = await release.node.start("first-request")
    code = await first_request.ended(START_SECONDS)
    printed = first_request.log.read_text()
    assert code == 0, printed
    assert "usage" in printed
    (url,) = (word for word in first_request.pod.container()["args"] if "://" in word)
    assert url.partition(":")[0] == ("https" if release.redis_access.password_file else "http")


@pytest.mark.parametrize("name", [*PROCESSES, "queue", "check", "test", "first-request"])
async def test_a_process_writes_only_where_its_pod_lets_it(release: Release, name: str) -> None:
    """After a job was done: the root file system is read-only in a cluster, and so are Secrets and models."""
    assert release.node.refused_writes(name) == set()


async def test_redis_wants_the_password_that_the_secret_holds(release: Release) -> None:
    """Where one is given; quotes, spaces and backslashes in it do no harm."""
    without = Redis.from_url(release.redis_url, retry=Retry(NoBackoff(), 0))
    async with without:
        if release.redis_access.password_file is None:
            assert await without.ping()
        else:
            with pytest.raises(AuthenticationError):
                await without.ping()


async def test_sigterm_makes_a_process_unready_and_then_it_ends(release: Release) -> None:
    """Readiness is false first, while it still lives; then it exits with 0 within the pod's grace period."""
    gateway = release.running["gateway"]
    gateway.terminate()
    assert await gateway.ended(gateway.pod.spec["terminationGracePeriodSeconds"]) == 0, gateway.log.read_text()
    await asyncio.gather(*(_ends_well(release.running[name]) for name in ("coordinator", "exporter")))
    await asyncio.gather(*(_ends_well(release.running[role]) for role in ROLES))


async def _ends_well(one: Running) -> None:
    readiness = one.watch("readiness")
    assert await anext(readiness) == "SERVING"
    one.terminate()
    assert await anext(readiness) == "NOT_SERVING"
    assert one.process.returncode is None
    assert await one.ended(one.pod.spec["terminationGracePeriodSeconds"]) == 0, one.log.read_text()
