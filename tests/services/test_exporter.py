"""The exporter: what a queue holds, as metrics, with no coordinator anywhere."""

import asyncio
import re
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gsi.client.sdk import AsyncClient
from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys
from gsi.jobs.observer import QueueObserver
from gsi.jobs.stream import JobStream
from gsi.jobs.tenant_jobs import TenantJobs
from gsi.local.child_process import ChildProcess
from gsi.local.embedded_redis import embedded_redis, free_port
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
RIGHTS = re.search(r"^user gsi-exporter (.+)$", (ROOT / "docs" / "redis.md").read_text(), re.MULTILINE)


class Exporter:
    """A running exporter, and where its metrics are."""

    def __init__(self, folder: Path, redis_url: str, queue: str, password_file: Path | None = None) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        settings = {"REDIS_URL": redis_url, "QUEUE": queue, "METRICS_LISTEN": self.address, "LOG_FORMAT": "json"}
        environment = {f"GSI_EXPORTER_{name}": value for name, value in settings.items()}
        environment["GSI_EXPORTER_LOOK_SECONDS"] = environment["GSI_EXPORTER_TENANT_SECONDS"] = "0.05"
        if password_file:
            environment["GSI_EXPORTER_REDIS_PASSWORD_FILE"] = str(password_file)
        command = [sys.executable, "-m", "services.exporter"]
        self.process = ChildProcess("exporter", command, environment, folder / "exporter.log", lambda *_: None)

    async def series(self) -> Mapping[str, float]:
        """Return the series by name, with the labels in braces."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Mapping[str, float]:
        with urllib.request.urlopen(f"http://{self.address}/metrics") as answer:
            text = answer.read().decode()
        return {name: float(value) for name, value in re.findall(r"^(gsi_\S+) (\S+)$", text, re.MULTILINE)}

    async def wait_for(self, **wanted: float) -> None:
        """Return once the series have these values, with their names without ``gsi_``."""

        async def has_them() -> bool:
            found = await self.series()
            return all(found.get(f"gsi_{name}") == value for name, value in wanted.items())

        await wait_until(has_them, f"the exporter shows {wanted}")


@asynccontextmanager
async def exporting(folder: Path, redis_url: str, queue: str) -> AsyncIterator[Exporter]:
    exporter = Exporter(folder, redis_url, queue)
    await exporter.process.start()
    try:
        yield exporter
    finally:
        await exporter.process.stop()


async def test_it_shows_a_queue_that_nobody_reads(tmp_path: Path, redis_url: str, queue: str) -> None:
    """Jobs that wait are seen before any coordinator has ever run, and none is made up."""
    async with exporting(tmp_path, redis_url, queue) as exporter, AsyncClient(redis_url, queue) as client:
        await exporter.wait_for(stream_lag=0, queue_coordinators=0, redis_reachable=1)
        for _ in range(3):
            await client.submit({"prompt": "2 + 3"})
        await exporter.wait_for(stream_lag=3, stream_pending=0, queue_coordinators=0)
        await client.admin.pause()
        await exporter.wait_for(queue_paused=1)


async def test_it_counts_the_coordinators_that_ask(tmp_path: Path, redis_url: str, queue: str) -> None:
    """One that has taken a job and one that waits for another, each once for all lanes."""
    redis: Any = connect(redis_url)
    streams = [JobStream(redis, Keys(queue), f"coordinator-{number}") for number in (1, 2)]
    await streams[0].create_group()
    async with exporting(tmp_path, redis_url, queue) as exporter, AsyncClient(redis_url, queue) as client:
        await client.submit({"prompt": "2 + 3"})
        await streams[0].take_new(1, 20)
        await streams[1].take_new(1, 20)
        await exporter.wait_for(stream_lag=0, stream_pending=1, queue_coordinators=2)
    await redis.aclose()


async def test_it_creates_nothing(redis: Any, queue: str) -> None:
    """A queue that it has looked at is as it was: without streams, so that clients still learn that nobody reads it."""
    seen = await QueueObserver(redis, Keys(queue)).look()
    assert (seen.backlog.lag, seen.num_coordinators) == (0, 0)
    assert not [key async for key in redis.scan_iter(f"*{{{queue}}}*")]


async def test_it_shows_the_jobs_of_each_tenant_while_it_has_some(tmp_path: Path, redis_url: str, queue: str) -> None:
    """And no longer when they have ended."""
    async with exporting(tmp_path, redis_url, queue) as exporter, AsyncClient(redis_url, queue) as client:
        for tenant in "aab":
            await client.submit({"prompt": "2 + 3", "tenant": tenant})
        shown = {f'tenant_jobs{{place="waiting",tenant="{tenant}"}}': number for tenant, number in (("a", 2), ("b", 1))}
        await exporter.wait_for(**shown)
        assert (await exporter.series())['gsi_tenant_jobs{place="parked",tenant="a"}'] == 0
        await client.submit({"prompt": "2 + 3", "tenant": "c"})
        redis: Any = connect(redis_url)
        await redis.delete(*Keys(queue).lanes)
        await redis.aclose()

        async def shows_none() -> bool:
            return not [name for name in await exporter.series() if name.startswith("gsi_tenant_jobs")]

        await wait_until(shows_none, "no tenant is shown")


async def test_it_shows_the_memory_of_redis(tmp_path: Path) -> None:
    """What is used, and the limit, which is 0 as long as there is none."""
    with embedded_redis() as url:
        async with exporting(tmp_path, url, "default") as exporter:
            await exporter.wait_for(redis_memory_max_bytes=0)
            assert (await exporter.series())["gsi_redis_memory_used_bytes"] > 100_000
            own: Any = connect(url)
            await own.config_set("maxmemory", "64mb")
            await own.aclose()
            await exporter.wait_for(redis_memory_max_bytes=64 * 2**20)


async def test_the_rights_of_an_older_release_leave_out_what_it_did_not_show(tmp_path: Path) -> None:
    """The log names the commands, once each, and the queue is shown."""
    with embedded_redis() as url:
        root: Any = connect(url)
        assert RIGHTS
        rights = RIGHTS[1].replace("change-me", "hunter2").replace("+info ", "").replace("+hgetall ", "").split()
        await root.execute_command("ACL", "SETUSER", "gsi-exporter", "reset", *rights)
        own = url.replace("redis://", "redis://gsi-exporter:hunter2@")
        async with exporting(tmp_path, own, "default") as exporter, AsyncClient(url, "default") as client:
            await client.submit({"prompt": "2 + 3"})
            await exporter.wait_for(stream_lag=1, redis_memory_used_bytes=0, redis_reachable=1)
            assert not [name for name in await exporter.series() if name.startswith("gsi_tenant_jobs")]
        log = (tmp_path / "exporter.log").read_text()
        assert re.findall(r'"command": "(\w+)"', log) == ["info", "hgetall"]
        await root.aclose()


async def test_the_documented_rights_are_enough() -> None:
    """And they are read-only: a submission by this user is refused."""
    assert RIGHTS
    with embedded_redis() as url:
        root: Any = connect(url)
        rights = RIGHTS[1].replace("change-me", "hunter2").split()
        await root.execute_command("ACL", "SETUSER", "gsi-exporter", "reset", *rights)
        async with AsyncClient(url, "default") as client:
            await JobStream(root, Keys("default"), "worker").create_group()
            await client.submit({"prompt": "2 + 3", "tenant": "a"})
        await root.execute_command("ACL", "LOG", "RESET")
        own: Any = connect(url.replace("redis://", "redis://gsi-exporter:hunter2@"))
        assert (await QueueObserver(own, Keys("default")).look()).memory
        assert await TenantJobs(own, Keys("default")).count() == {"a": Counter(waiting=1)}
        assert await root.acl_log() == []
        with pytest.raises(Exception, match="permissions"):
            await own.xadd(Keys("default").jobs, {"job": "{}"})
        await own.aclose()
        await root.aclose()


async def test_it_says_when_redis_is_away_and_comes_back(tmp_path: Path, queue: str) -> None:
    """It lives on with its last numbers, and shows that they are old."""
    with embedded_redis() as url:
        async with exporting(tmp_path, url, queue) as exporter:
            await exporter.wait_for(redis_reachable=1)
            own: Any = connect(url)
            async with AsyncClient(url, queue) as client:
                await client.submit({"prompt": "2 + 3"})
            await exporter.wait_for(stream_lag=1)
            await own.execute_command("CLIENT", "PAUSE", 100, "ALL")
            await own.shutdown(nosave=True)
            await own.aclose()
            await exporter.wait_for(redis_reachable=0, stream_lag=1)


async def test_a_password_that_changes_is_waited_out(tmp_path: Path, queue: str) -> None:
    """The server may have the new one before the exporter's file has it, or after."""
    password = tmp_path / "password"
    password.write_text("first")
    with embedded_redis() as url:
        root: Any = connect(url)
        await root.execute_command("ACL", "SETUSER", "changing", "on", "+@all", "~*", ">first")
        exporter = Exporter(tmp_path, url.replace("redis://", "redis://changing@"), queue, password)
        await exporter.process.start()
        try:
            await exporter.wait_for(redis_reachable=1)
            await root.execute_command("ACL", "SETUSER", "changing", "resetpass", ">second")
            await root.execute_command("CLIENT", "KILL", "USER", "changing")
            await exporter.wait_for(redis_reachable=0)
            password.write_text("second")
            await exporter.wait_for(redis_reachable=1)
        finally:
            await exporter.process.stop()
            await root.aclose()


async def test_a_wrong_password_ends_it_with_a_sentence(tmp_path: Path) -> None:
    """Time does not correct it."""
    with embedded_redis() as url:
        exporter = Exporter(tmp_path, url.replace("redis://", "redis://nobody:wrong@"), "default")
        with pytest.raises(Exception, match="exporter"):
            await exporter.process.start()
        assert "cannot start" in (tmp_path / "exporter.log").read_text()
