"""Nothing hangs in silence: a wait that may be long says why within two seconds, and goes on."""

import asyncio
import time
from typing import Any

import pytest

from gsi import AsyncClient, WaitTimeoutError
from gsi.client import notices
from tests.client.conftest import Coordinator
from tests.conftest import wait_until


class Heard(list[str]):
    """Notices, with a way to wait for one."""

    async def first(self) -> str:
        async def has_one() -> bool:
            return bool(self)

        await wait_until(has_one, "a notice came")
        return self[0]


@pytest.fixture
def heard() -> Heard:
    return Heard()


async def test_a_queue_that_nobody_reads_is_named(
    redis_url: str, queue: str, heard: Heard, coordinator: Coordinator
) -> None:
    """The notice comes once, within two seconds; then a coordinator comes, and the wait ends as it should."""
    async with AsyncClient(redis_url, queue, notify=heard.append) as client:
        job_id = await client.submit({"prompt": "say a"})
        started = time.monotonic()
        waiting = asyncio.create_task(client.wait(job_id))
        assert (await heard.first()).startswith(f"no coordinator reads queue {queue}: its jobs wait for one")
        assert time.monotonic() - started < 2
        assert not await client.is_served()  # to look has created nothing
        async with coordinator():
            assert (await waiting).answer == "a"
    assert len(heard) == 1


async def test_a_coordinator_that_has_ended_does_not_count(
    redis_url: str, queue: str, heard: Heard, coordinator: Coordinator
) -> None:
    """Its consumer stays in the group, and is idle."""
    async with AsyncClient(redis_url, queue, notify=heard.append) as client:
        async with coordinator():
            await client.wait(await client.submit({"prompt": "say a"}))
        job_id = await client.submit({"prompt": "say b"})
        started = time.monotonic()
        steps = asyncio.create_task(anext(client.follow(job_id)))
        assert "no coordinator reads" in await heard.first()
        assert time.monotonic() - started < 6  # of which 3 s: on a busy machine a coordinator asks that rarely
        steps.cancel()


async def test_a_paused_queue_is_named(redis_url: str, queue: str, heard: Heard, coordinator: Coordinator) -> None:
    """The notice says how to resume it."""
    async with AsyncClient(redis_url, queue, notify=heard.append) as client, coordinator():
        await client.admin.pause()
        job_id = await client.submit({"prompt": "say a"})
        waiting = asyncio.create_task(anext(client.as_completed([job_id])))
        assert await heard.first() == f"queue {queue} is paused: its jobs wait until it is resumed (gsi queue resume)"
        await client.admin.resume()
        assert (await waiting).answer == "a"


async def test_a_queue_that_is_read_is_not_named(
    redis_url: str, queue: str, heard: Heard, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the client looks; and it looks no more once nobody waits."""
    monkeypatch.setattr(notices, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(notices, "SECOND_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(notices, "LOOK_SECONDS", 0.02)
    async with AsyncClient(redis_url, queue, notify=heard.append) as client, coordinator():
        for _ in range(3):
            await client.wait(await client.submit({"prompt": "say a"}))
        assert client._notices._task is None
    assert heard == []


async def test_an_id_that_nobody_pushed_is_named(redis_url: str, queue: str, heard: Heard) -> None:
    """A mistyped id would be waited for for ever."""
    async with AsyncClient(redis_url, queue, notify=heard.append) as client:
        waiting = asyncio.create_task(client.wait("mistyped"))
        assert await heard.first() == f"queue {queue} has no job mistyped yet: it was never pushed, or not taken yet"
        waiting.cancel()
        heard.clear()
        following = asyncio.create_task(anext(client.follow("another")))
        assert await heard.first() == f"queue {queue} has no job another yet: it was never pushed, or not taken yet"
        following.cancel()


async def test_without_a_function_a_notice_is_a_warning_of_the_log(
    redis_url: str, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that has set up no logging sees it on standard error."""
    async with AsyncClient(redis_url, queue) as client:
        await client.submit({"prompt": "say a"})
        await client.tell_obstacle()
    assert [(record.name, record.levelname) for record in caplog.records] == [("gsi", "WARNING")]


async def test_a_user_who_may_not_look_waits_without_notices(
    redis: Any, redis_url: str, queue: str, heard: Heard
) -> None:
    """Rights to submit and to read are enough: a look that is refused ends neither the wait nor the submission."""
    rights = ["on", ">secret", "~*", "+@all", "-xinfo"]
    await redis.execute_command("ACL", "SETUSER", "few", "reset", *rights)
    try:
        async with AsyncClient(redis_url.replace("://", "://few:secret@"), queue, notify=heard.append) as client:
            job_id = await client.submit({"prompt": "say a"})
            await client.tell_obstacle()
            with pytest.raises(WaitTimeoutError):
                await client.wait(job_id, timeout_seconds=1.0)
    finally:
        await redis.execute_command("ACL", "DELUSER", "few")
    assert heard == []
