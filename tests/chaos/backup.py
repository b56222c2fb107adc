"""Copies of a Redis server as docs/redis.md describes them, the loss of the server with its folder, and its return.

``python -m tests.chaos.backup`` prints what a copy of 10,000 finished jobs weighs, and how long copy and return take.
"""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis

from gsi.jobs.connection import connect
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter
from gsi.local.embedded_redis import free_port, server_command, url_of
from gsi.runtime.child import child_command
from tests.jobs.sample import DONE, step

START_SECONDS = 60.0
NUM_JOBS, NUM_STEPS = 10_000, 14  # steps of a job in the paper's Table 2
AOF = "appendonlydir"
RDB = "dump.rdb"


class Server:
    """A server with a folder of its own, that can be lost with all that it wrote."""

    def __init__(self, folder: Path) -> None:
        self.data = folder
        self._port = free_port()
        self.url = url_of(self._port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it and wait until it has read its files. Raises TimeoutError."""
        self.data.mkdir(exist_ok=True)
        command = [*server_command(self.data, self._port, self.data / "server.log"), *options]
        self._process = subprocess.Popen(child_command(command), start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server did not start in {START_SECONDS} s")
            time.sleep(0.01)

    def lose(self) -> None:
        """Kill it, and delete its folder."""
        self.stop()
        shutil.rmtree(self.data)

    def stop(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def client(self) -> Any:
        return redis.Redis.from_url(self.url)

    def wait_until_saved(self, field: str) -> None:
        """Wait until a background save is over. Raises RuntimeError if it failed."""
        with self.client() as client:
            while client.info("persistence")[field]:
                time.sleep(0.01)
            persistence = client.info("persistence")
            if persistence["rdb_last_bgsave_status"] != "ok" or persistence["aof_last_bgrewrite_status"] != "ok":
                raise RuntimeError(f"the server could not save: {persistence}")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                client.ping()
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False
        return True


def copy_snapshot(server: Server, to: Path) -> None:
    """BGSAVE, wait for its end, copy the file."""
    with server.client() as client:
        client.bgsave()
    server.wait_until_saved("rdb_bgsave_in_progress")
    shutil.copy(server.data / RDB, to / RDB)


def copy_append_only_files(server: Server, to: Path) -> None:
    """Keep the server from rewriting its files, copy their folder, allow rewriting again."""
    with server.client() as client:
        before = client.config_get("auto-aof-rewrite-percentage")["auto-aof-rewrite-percentage"]
        client.config_set("auto-aof-rewrite-percentage", 0)
        try:
            server.wait_until_saved("aof_rewrite_in_progress")
            shutil.copytree(server.data / AOF, to / AOF)
        finally:
            client.config_set("auto-aof-rewrite-percentage", before)


def restore_snapshot(server: Server, copy: Path) -> None:
    """Start without an append-only file, which would win over the snapshot; then turn it on, which writes one."""
    server.data.mkdir()
    shutil.copy(copy / RDB, server.data / RDB)
    server.start("--appendonly", "no")
    with server.client() as client:
        client.config_set("appendonly", "yes")
    server.wait_until_saved("aof_rewrite_in_progress")


def restore_append_only_files(server: Server, copy: Path) -> None:
    """Put the folder back and start."""
    server.data.mkdir()
    shutil.copytree(copy / AOF, server.data / AOF)
    server.start()


Copy = tuple[Callable[[Server, Path], None], Callable[[Server, Path], None]]
COPIES: Mapping[str, Copy] = {
    "append-only files": (copy_append_only_files, restore_append_only_files),
    "snapshot": (copy_snapshot, restore_snapshot),
}


async def fill(url: str, num_jobs: int, num_steps: int) -> None:
    """Submit jobs, keep the steps of each and end it."""
    keys = Keys("default")
    client = connect(url)
    submitter, writer, stream = JobSubmitter(client, keys), JobWriter(client, keys), JobStream(client, keys, "worker")
    await stream.create_group()
    payload = parse_payload({"prompt": "2 + 3"})
    for number in range(num_jobs):
        await submitter.submit(Job(f"job-{number}", payload))
        (delivery,) = await stream.take_new(1, 100)
        lease = await writer.take(f"job-{number}", delivery)
        assert lease is not None
        for index in range(num_steps):
            await writer.append_step(lease, step(index, "Three and two make five, as one counts. " * 3))
        await writer.commit(lease, DONE)
    await client.aclose()


def measure() -> dict[str, dict[str, float]]:
    """Return of each kind of copy its bytes, and the seconds that copy and return take."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "server")
        server.start()
        try:
            asyncio.run(fill(server.url, NUM_JOBS, NUM_STEPS))
            for name, (copy, restore) in COPIES.items():
                to = Path(folder) / name
                to.mkdir()
                began = time.monotonic()
                copy(server, to)
                copied = time.monotonic()
                num_bytes = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
                server.lose()
                lost = time.monotonic()
                restore(server, to)
                seconds = {"copy_seconds": copied - began, "return_seconds": time.monotonic() - lost}
                figures[name] = {"bytes": num_bytes} | {key: round(value, 2) for key, value in seconds.items()}
        finally:
            server.stop()
    return figures


if __name__ == "__main__":
    print(json.dumps({"jobs": NUM_JOBS, "steps": NUM_STEPS, **measure()}, indent=2))
