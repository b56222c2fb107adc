"""``gsi queue`` and what a submission meets when the queue is full, against a real server."""

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gsi.cli.main import app
from gsi.jobs.connection import connect
from gsi.jobs.keys import GROUP, Keys
from gsi.local.embedded_redis import embedded_redis, free_port


def gsi(redis_url: str, queue: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--redis-url", redis_url, "--queue", queue])


def test_a_queue_is_paused_limited_and_looked_at(redis_url: str, queue: str) -> None:
    """Each command says what is so now; the figures are one JSON object for scripts."""
    assert "is paused" in gsi(redis_url, queue, "queue", "pause").stderr
    assert gsi(redis_url, queue, "queue", "limit", "1").exit_code == 0
    job_id = gsi(redis_url, queue, "submit", "2 + 3").stdout.strip()
    assert job_id
    stats = json.loads(gsi(redis_url, queue, "queue", "stats", "--json").stdout)
    assert (stats["is_paused"], stats["max_jobs"], stats["entries"]["normal"]) == (True, 1, 1)
    shown = gsi(redis_url, queue, "queue", "stats").stdout
    assert "PAUSED" in shown
    assert "records" in shown
    assert "has resumed" in gsi(redis_url, queue, "queue", "resume").stderr
    assert gsi(redis_url, queue, "queue", "limit", "0").exit_code == 0
    assert json.loads(gsi(redis_url, queue, "queue", "stats", "--json").stdout)["max_jobs"] is None


def test_a_submission_to_a_full_queue_is_told_when_to_come_back(redis_url: str, queue: str) -> None:
    """With the exit code of what may go better later."""
    gsi(redis_url, queue, "queue", "limit", "1")
    assert gsi(redis_url, queue, "submit", "first").exit_code == 0
    refused = gsi(redis_url, queue, "submit", "second")
    assert refused.exit_code == 75
    assert f"queue {queue} is full: 1 jobs; come back in" in refused.stderr


def test_a_wrong_limit_is_refused(redis_url: str, queue: str) -> None:
    """The sentence says what is allowed."""
    refused = gsi(redis_url, queue, "queue", "limit", "20000000")
    assert refused.exit_code == 2
    assert "max_jobs: 20000000 is not allowed; allowed: 1 to 10000000, or none" in refused.stderr


async def groups_of(redis_url: str, queue: str) -> list[list[bytes]]:
    """Return the names of each lane's groups."""
    async with connect(redis_url) as redis:
        return [[group["name"] for group in await redis.xinfo_groups(lane)] for lane in Keys(queue).lanes]


def test_a_queue_is_created_once(redis_url: str, queue: str) -> None:
    """Three streams, each with the coordinators' group, which has not read anything; again, it changes nothing."""
    assert gsi(redis_url, queue, "submit", "2 + 3").exit_code == 0
    for _ in range(2):
        created = gsi(redis_url, queue, "queue", "create")
        assert (created.exit_code, created.stderr) == (0, f"queue {queue} exists\n")
    assert asyncio.run(groups_of(redis_url, queue)) == [[GROUP.encode()]] * 3
    stats = json.loads(gsi(redis_url, queue, "queue", "stats", "--json").stdout)
    assert (stats["lag"], stats["pending"]) == (1, 0)


def test_creating_a_queue_waits_for_redis(tmp_path: Path) -> None:
    """A hook may run before its server does."""
    port, may_stop = free_port(), threading.Event()

    def serve_late() -> None:
        time.sleep(1.5)
        with embedded_redis(tmp_path, port):
            may_stop.wait(60)

    server = threading.Thread(target=serve_late)
    server.start()
    try:
        created = gsi(f"redis://127.0.0.1:{port}/0", "late", "queue", "create", "--wait", "60")
        assert (created.exit_code, created.stderr) == (0, "queue late exists\n")
    finally:
        may_stop.set()
        server.join()


@pytest.mark.parametrize("wait_seconds", ["0", "1"])
def test_a_queue_is_not_created_where_nobody_answers(wait_seconds: str) -> None:
    """After the wait it ends with a sentence and the exit code of a failure."""
    started = time.monotonic()
    refused = gsi(f"redis://127.0.0.1:{free_port()}/0", "nowhere", "queue", "create", "--wait", wait_seconds)
    assert refused.exit_code == 1
    assert "no Redis" in refused.stderr
    assert "--redis-url" in refused.stderr
    assert time.monotonic() - started >= float(wait_seconds)
