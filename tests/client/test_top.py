"""``gsi top``, with Textual's own pilot: what it shows of a real queue, and what its keys do."""

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from gsi import AsyncClient, JobState
from gsi.cli.top import Top
from gsi.jobs.connection import Redis
from gsi.jobs.keys import Keys
from gsi.jobs.policy import Policy
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobWriter
from tests.client.conftest import Coordinator
from tests.jobs.sample import step

HOSTILE = "[red]\x1b[2J$x$"


@pytest.fixture
async def client(redis_url: str, queue: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url, queue) as connected:
        yield connected


def head_of(top: Top) -> str:
    return str(top.query_one("#head", Static).render())


def rows_of(top: Top) -> list[list[str]]:
    table = top.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(row)] for row in range(table.row_count)]


async def select(pilot: Pilot[None], top: Top, job_id: str) -> None:
    (row,) = [row for row, cells in enumerate(rows_of(top)) if cells[0] == job_id]
    top.query_one(DataTable).move_cursor(row=row)
    await pilot.pause()


async def test_it_shows_a_queue_and_its_jobs(client: AsyncClient, queue: str, coordinator: Coordinator) -> None:
    """Counts, coordinators, states, acceptance and answers; what has changed is there at the next look."""
    top = Top(client, queue)
    async with top.run_test(size=(160, 30)):
        assert "no coordinator reads this queue" in head_of(top)
        async with coordinator():
            await client.wait(await client.submit({"id": "a", "prompt": "say a"}), 10)
            await client.wait(await client.submit({"id": "b", "prompt": "say fail"}), 10)
            await top.look()
            assert "worker-1 (0)" in head_of(top)
        await client.submit({"id": "c", "prompt": "say c", "params": {"method": "rsd"}})
        await top.look()
        assert "waiting 1  running 0" in head_of(top)
        assert "finished in the last minute: 1 failed  1 succeeded; accepted steps: 100%" in head_of(top)
        rows = rows_of(top)
    assert [row[:2] + row[3:5] + row[6:] for row in rows] == [
        ["c", "QUEUED", "0", "-", ""],
        ["b", "FAILED", "1", "100%", "no such word"],
        ["a", "SUCCEEDED", "1", "100%", "a"],
    ]
    assert rows[0][2] == "rsd"


async def test_a_running_job_shows_its_last_step_as_text(
    client: AsyncClient, redis: Redis, keys: Keys, queue: str
) -> None:
    """Each step is read once; what a model wrote is neither markup nor a control sequence. A dead job is retried."""
    stream, writer = JobStream(redis, keys, "worker-1"), JobWriter(redis, keys, Policy(max_attempts=1))
    await stream.create_group()
    top = Top(client, queue)
    async with top.run_test(size=(160, 30)) as pilot:
        await client.submit({"id": "a", "prompt": "say a"})
        (delivery,) = await stream.take_new(count=1, block_ms=100)
        lease = await writer.take("a", delivery)
        assert lease is not None
        for number, text in enumerate(("first", "second", HOSTILE)):
            await writer.append_step(lease, step(number, text))
            await top.look()
        assert "running 1" in head_of(top)
        assert rows_of(top)[0][3:5] == ["3", "100%"]
        assert rows_of(top)[0][6] == "[red]\ufffd[2J$x$"
        await writer.retry(lease, "went wrong", 0)
        await top.look()
        assert rows_of(top)[0][1] == "DEAD"
        await select(pilot, top, "a")
        await pilot.press("r")
        assert (await client.result("a")).state is JobState.QUEUED


async def test_keys_pause_the_queue_and_cancel_the_selected_job(client: AsyncClient, queue: str) -> None:
    """The cursor stays on its job while others come. To retry a job that is not dead is refused with a sentence."""
    top = Top(client, queue)
    async with top.run_test(size=(160, 30)) as pilot:
        await client.submit({"id": "a", "prompt": "say a"})
        await top.look()
        await select(pilot, top, "a")
        await client.submit({"id": "b", "prompt": "say b"})
        await top.look()
        assert [row[0] for row in rows_of(top)] == ["b", "a"]
        await pilot.press("r")
        await pilot.press("c")
        assert [(await client.result(job_id)).state for job_id in "ab"] == ["CANCELLED", "QUEUED"]
        await pilot.press("p")
        assert "PAUSED" in head_of(top)
        assert (await client.admin.stats()).is_paused
        await pilot.press("p")
        assert not (await client.admin.stats()).is_paused
        await pilot.press("q")
    assert top.return_code == 0


def test_without_textual_the_extra_is_named(redis_url: str) -> None:
    """In one line, before the screen is taken."""
    code = "import sys; sys.modules['textual'] = None; from gsi.cli.start import main; main()"
    command = [sys.executable, "-c", code, "top", "--redis-url", redis_url]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "pip install 'gsi-serve[top]'" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
