"""The built-in Redis as the chart runs it: snapshots, a restore, and a password that changes while jobs run.

The pods' own commands run as processes (``kubelet``), with a real server; where jobs run, with a real
coordinator and scripted models.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gsi.client.sdk import AsyncClient
from gsi.jobs.connection import REFUSED, RedisAccess, RedisError, connect
from gsi.jobs.errors import UnknownJobError
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from tests.chart.kubelet import Node, Running
from tests.chart.rendering import objects_with
from tests.conftest import wait_until
from tests.gateway.system import scripted_models

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

SECRET = "queue-password"
FIRST, SECOND, THIRD = b'first "horse" \\ staple', b"second\n", b"third"
KEYS = Keys("default")
DATA, SNAPSHOTS = "data-gsi-redis-0", "gsi-redis-backup"
SECONDS = 120.0  # on a busy machine


class RedisPod:
    """The built-in Redis of a release with backups and a password, and its Jobs."""

    def __init__(self, folder: Path, values: Mapping[str, Any]) -> None:
        built_in = {"passwordSecret": {"name": SECRET}, "oldPasswordSeconds": 3}
        found = objects_with("cpu", {"redis": {"builtIn": built_in, "backup": {"enabled": True, **values}}})
        self.secrets = {SECRET: {"password": FIRST}}
        self.node = Node(folder, found, self.secrets)
        self.url = f"redis://{self.node.addresses['redis']}:6379/0"
        self.access = RedisAccess(folder / "password")
        self.password_file = folder / "password"
        self.password_file.write_bytes(FIRST)
        self._running: Running | None = None

    async def start(self) -> None:
        self._running = await self.node.start("redis")
        async with self.client() as client:

            async def answers() -> bool:
                try:
                    return bool(await client.ping())
                except RedisError:
                    return False

            await wait_until(answers, "Redis is up", SECONDS)
            await client.config_set("repl-diskless-sync-delay", 0)  # it would wait 5 s for a second replica

    async def stop(self) -> None:
        if self._running is not None:
            self._running.terminate()
            await self._running.ended(SECONDS)
            self._running = None

    async def lose(self) -> None:
        """Kill it, and delete its volume."""
        assert self._running is not None
        self._running.process.kill()
        await self._running.ended(SECONDS)
        self._running = None
        shutil.rmtree(self.node.claim(DATA))

    @asynccontextmanager
    async def client(self, password: bytes | None = None) -> AsyncIterator[Any]:
        """A client by this password, or by that of the file."""
        access = self.access
        if password is not None:
            access = RedisAccess(self.password_file.with_name("tried"))
            self.password_file.with_name("tried").write_bytes(password)
        async with aclosing(connect(self.url, access)) as client:
            yield client

    async def run(self, component: str) -> tuple[int, str]:
        """Run a Job; return its exit code and what it said."""
        job = await self.node.start(component)
        return await job.ended(SECONDS), job.log.read_text()

    @property
    def snapshots(self) -> list[str]:
        folder = self.node.claim(SNAPSHOTS)
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest_asyncio.fixture(loop_scope="session")
async def pod(tmp_path: Path) -> AsyncIterator[RedisPod]:
    made = RedisPod(tmp_path, {"keep": 2})
    await made.start()
    yield made
    await made.stop()


@asynccontextmanager
async def jobs_of(pod: RedisPod) -> AsyncIterator[AsyncClient]:
    """A client, and a coordinator with scripted models, which take some seconds for a job."""
    settings = {"redis_password_file": pod.password_file, "lease_seconds": 1, "max_jobs": 2}
    async with (
        scripted_models(pod.password_file.parent, pod.url, "default", settings_of_coordinator=settings),
        AsyncClient(pod.url, "default", access=pod.access) as client,
    ):
        yield client


async def submit(client: AsyncClient, number: int) -> str:
    """Submit a job whose answer says its number."""
    payload = {"id": f"job-{number}", "prompt": f"~One. |~Two. |~Three. |Job {number}.", "params": {"n": 2, "seed": 0}}
    return await client.submit(payload)


async def finished(client: AsyncClient, job_id: str) -> JobRecord:
    return await client.wait(job_id, SECONDS)


async def ends_of(redis: Any) -> Counter[str]:
    """Return how often each job's end was announced."""
    return Counter(fields[b"id"].decode() for _, fields in await redis.xrange(KEYS.results))


# --- Snapshots -------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_checked_and_the_newest_stay(pod: RedisPod) -> None:
    """Under a name that says when; what a killed run left behind is removed."""
    async with pod.client() as redis:
        await redis.set("key", "value")
    folder = pod.node.claim(SNAPSHOTS)
    folder.mkdir(parents=True)
    for name in ("redis-20260101T000000Z.rdb", "redis-20260102T000000Z.rdb", "redis-20260103T000000Z.rdb.part"):
        (folder / name).write_bytes(b"earlier")
    code, said = await pod.run("backup")
    assert code == 0, said
    assert "1 keys" in said
    assert len(pod.snapshots) == 2
    assert pod.snapshots[0] == "redis-20260102T000000Z.rdb"
    assert FIRST.decode() not in said


async def test_what_is_no_snapshot_fails_the_job_and_pushes_none_out(pod: RedisPod) -> None:
    """An empty server, a wrong password, and no server: each says so, and the earlier snapshots stay."""
    folder = pod.node.claim(SNAPSHOTS)
    folder.mkdir(parents=True)
    earlier = {f"redis-2026010{day}T000000Z.rdb" for day in (1, 2, 3)}
    for name in earlier:
        (folder / name).write_bytes(b"earlier")
    code, said = await pod.run("backup")
    assert (code, set(pod.snapshots)) == (1, earlier)
    assert "the server has no key" in said
    pod.secrets[SECRET]["password"] = b"wrong"
    code, said = await pod.run("backup")
    assert (code, set(pod.snapshots)) == (1, earlier)
    assert "WRONGPASS" in said
    await pod.stop()
    code, said = await pod.run("backup")
    assert (code, set(pod.snapshots)) == (1, earlier)
    assert "Could not connect" in said


async def test_the_documented_rights_take_a_snapshot(pod: RedisPod) -> None:
    """A user with the two rights of docs/redis.md, who can do nothing else."""
    async with pod.client() as redis:
        await redis.set("key", "value")
        rights = "on >hunter2 resetchannels -@all +sync +replconf"
        await redis.execute_command("ACL", "SETUSER", "gsi-backup", *rights.split())
    job = pod.node.pods["backup"]
    for variable in job.container()["env"]:
        if variable["name"] == "GSI_REDIS_URL":
            variable["value"] = variable["value"].replace("redis://", "redis://gsi-backup@")
    pod.secrets[SECRET]["password"] = b"hunter2"
    code, said = await pod.run("backup")
    assert code == 0, said
    async with aclosing(connect(pod.url.replace("://", "://gsi-backup:hunter2@"))) as redis:
        with pytest.raises(RedisError, match="permissions"):
            await redis.get("key")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+sentinel://a:26379/name", "is not of one server"),
        ("redis://user:hunter2@host:6379", "has a password"),
    ],
)
async def test_an_address_that_it_cannot_use_is_refused(pod: RedisPod, url: str, sentence: str) -> None:
    """By a sentence without the address, which may hold a password."""
    for variable in pod.node.pods["backup"].container()["env"]:
        if variable["name"] == "GSI_REDIS_URL":
            variable["value"] = url
    code, said = await pod.run("backup")
    assert code == 78
    assert sentence in said
    assert "hunter2" not in said


async def test_every_job_ends_once_or_is_reported_after_the_charts_restore(pod: RedisPod) -> None:
    """Jobs end, run and wait at the snapshot; others come behind it; then the server is lost with its volume."""
    async with jobs_of(pod) as client:
        before = await finished(client, await submit(client, 0))
        within = [await submit(client, number) for number in (1, 2, 3)]
        code, said = await pod.run("backup")
        assert code == 0, said
        behind = await submit(client, 4)
        answers = {job_id: (await finished(client, job_id)).text for job_id in [*within, behind]}
        code, said = await pod.run("restore")
        assert (code, "is up" in said) == (78, True), said

        await pod.lose()
        code, said = await pod.run("restore")
        assert code == 0, said
        await pod.start()

        assert (await finished(client, before.id)).text == before.text
        assert {job_id: (await finished(client, job_id)).text for job_id in within}.items() <= answers.items()
        with pytest.raises(UnknownJobError):
            await client.result(behind)
        assert (await finished(client, await submit(client, 4))).text == answers[behind]
        async with pod.client() as redis:
            assert (await redis.info("persistence"))["aof_enabled"] == 1
            assert await ends_of(redis) == Counter(["job-0", *within, behind])


# --- A password that changes -----------------------------------------------------------------------------------------


async def drop_connections(pod: RedisPod, password: bytes) -> None:
    """Have every client connect anew, as after a failure of the network."""
    async with pod.client(password) as redis:
        await redis.execute_command("CLIENT", "KILL", "TYPE", "NORMAL")


async def accepts(pod: RedisPod, password: bytes) -> bool:
    async with pod.client(password) as redis:
        try:
            return bool(await redis.ping())
        except REFUSED:
            return False


async def test_jobs_run_while_the_password_changes(pod: RedisPod) -> None:
    """Twice: first the server's pod has the new Secret before its clients, then its clients have it before the server.

    Every connection is cut in between. No process ends, no job is lost, and no job ends twice.
    """
    clients = ("gateway", "exporter")
    others = [await pod.node.start(name) for name in clients]

    def give_clients(password: bytes) -> None:
        pod.password_file.write_bytes(password)
        for name in clients:
            pod.node.change_secret(name, SECRET, {"password": password})

    async def all_ready() -> bool:
        return [await one.ask("readiness") for one in others] == ["SERVING"] * len(others)

    async def works(password: bytes) -> bool:
        return await accepts(pod, password.strip())

    async def is_dropped(password: bytes) -> bool:
        return not await accepts(pod, password.strip())

    async with jobs_of(pod) as client:
        await wait_until(all_ready, "gateway and exporter are ready", SECONDS)
        ids = [await submit(client, number) for number in range(4)]
        pod.node.change_secret("redis", SECRET, {"password": SECOND})
        await wait_until(lambda: works(SECOND), "the server takes the new password", SECONDS)
        await drop_connections(pod, SECOND.strip())
        give_clients(SECOND)
        await wait_until(lambda: is_dropped(FIRST), "the old password is refused", SECONDS)

        ids += [await submit(client, number) for number in range(4, 6)]
        give_clients(THIRD)
        await drop_connections(pod, SECOND.strip())
        await asyncio.sleep(4)  # longer than a client tries again: the server does not know the password yet
        pod.node.change_secret("redis", SECRET, {"password": THIRD})
        await wait_until(lambda: works(THIRD), "the server takes the third password", SECONDS)
        await wait_until(lambda: is_dropped(SECOND), "the second password is refused", SECONDS)

        ids += [await submit(client, number) for number in range(6, 8)]
        assert {(await finished(client, job_id)).state for job_id in ids} == {JobState.SUCCEEDED}
        await wait_until(all_ready, "gateway and exporter are ready again", SECONDS)
        assert [one.process.returncode for one in others] == [None, None], [one.log.read_text() for one in others]
        async with pod.client() as redis:
            assert await ends_of(redis) == Counter(ids)
    for one in others:
        one.terminate()
        await one.ended(SECONDS)
