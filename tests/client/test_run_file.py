"""``gsi run``: a file of jobs, their results, and what the same command does the second time."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gsi.cli.main import app
from gsi.jobs.keys import Keys
from tests.client.conftest import Coordinator

Gsi = Callable[..., Awaitable[Result]]


@pytest.fixture
def gsi(redis_url: str, queue: str) -> Gsi:
    """Run a command: in a thread, because it runs a loop of its own."""

    async def invoke(*arguments: str, text: str | None = None) -> Result:
        command = [*arguments, "--redis-url", redis_url, "--queue", queue]
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, command, input=text))

    return invoke


def write(file: Path, *words: str) -> str:
    file.write_text("".join(json.dumps({"prompt": f"say {word}"}) + "\n" for word in words))
    return str(file)


def read(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_each_line_has_its_result_in_the_files_order(gsi: Gsi, coordinator: Coordinator, tmp_path: Path) -> None:
    """Equal lines are different jobs; ``-p`` is of all; the result has no steps unless they are asked for."""
    file = write(tmp_path / "in.jsonl", "a", "b", "a")
    async with coordinator():
        ran = await gsi("run", file, "-p", "n=2")
        with_steps = await gsi("run", file, "-p", "n=2", "--steps")
    assert (ran.exit_code, ran.stderr) == (0, "")
    results = read(ran.stdout)
    assert [(result["index"], result["answer"]) for result in results] == [(0, "a"), (1, "b"), (2, "a")]
    assert len({result["id"] for result in results}) == 3
    assert "steps" not in results[0]
    assert read(with_steps.stdout)[1]["steps"][0]["text"] == "about say b\n\n"


async def test_the_same_command_runs_no_line_twice(
    gsi: Gsi, coordinator: Coordinator, redis: Any, keys: Keys, tmp_path: Path
) -> None:
    """It writes all results again; a line that was added is run. Another name runs everything anew."""
    file = tmp_path / "in.jsonl"
    async with coordinator():
        first = await gsi("run", write(file, "a", "b"))
        second = await gsi("run", write(file, "a", "new", "b"))
        assert "resuming: 2 of 3 jobs have finished before" in second.stderr
        assert await redis.xlen(keys.results) == 3
        third = await gsi("run", str(file), "--name", "again")
        assert await redis.xlen(keys.results) == 6
    assert [result["answer"] for result in read(second.stdout)] == ["a", "new", "b"]
    assert read(second.stdout)[0] == read(first.stdout)[0]
    assert "resuming" not in third.stderr


async def test_a_failed_line_is_told_and_run_again_if_asked_for(
    gsi: Gsi, coordinator: Coordinator, redis: Any, keys: Keys, tmp_path: Path
) -> None:
    """The exit code says that a line has no answer; its result says why."""
    file = write(tmp_path / "in.jsonl", "a", "fail")
    async with coordinator():
        ran = await gsi("run", file)
        assert (ran.exit_code, "1 of 2 jobs ended without an answer" in ran.stderr) == (1, True)
        assert [result["error"] for result in read(ran.stdout)] == [None, "no such word"]
        await gsi("run", file)
        assert await redis.xlen(keys.results) == 2
        again = await gsi("run", file, "--retry-failed")
    assert "resuming: 1 of 2" in again.stderr
    assert await redis.xlen(keys.results) == 3


async def test_results_are_written_as_they_come(gsi: Gsi, coordinator: Coordinator, tmp_path: Path) -> None:
    """To a file, and from standard input; each says which line it is of. An id of the line's own is kept."""
    lines = "".join(json.dumps({"prompt": f"say {word}", "id": f"mine-{word}"}) + "\n" for word in "abcdef")
    async with coordinator():
        ran = await gsi("run", "-", "--as-completed", "--in-flight", "2", "-o", str(tmp_path / "out"), text=lines)
    assert (ran.exit_code, ran.stdout) == (0, "")
    results = read((tmp_path / "out").read_text())
    assert sorted((result["index"], result["id"]) for result in results) == list(
        enumerate(f"mine-{word}" for word in "abcdef")
    )


async def test_another_question_under_an_id_is_refused(gsi: Gsi, coordinator: Coordinator) -> None:
    """The file was edited, and the id was not."""
    async with coordinator():
        await gsi("run", "-", text='{"prompt": "say a", "id": "mine"}')
        refused = await gsi("run", "-", text='{"prompt": "say b", "id": "mine"}')
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "job mine exists with another payload" in refused.stderr


async def test_a_wrong_line_or_file_is_named_and_nothing_runs(gsi: Gsi, tmp_path: Path, redis: Any, keys: Keys) -> None:
    """Before anything is pushed."""
    refused = await gsi("run", "-", text='{"prompt": "a"}\n{"promt": "b"}\n')
    assert refused.exit_code == 2
    assert "- line 2: prompt: missing" in refused.stderr
    absent = await gsi("run", str(tmp_path / "absent"))
    assert (absent.exit_code, absent.stderr) == (2, f"refused  file {tmp_path}/absent: No such file or directory\n")
    unwritable = await gsi("run", "-", "-o", str(tmp_path), text='{"prompt": "a"}')
    assert (unwritable.exit_code, unwritable.stderr) == (1, f"failed  {tmp_path}: Is a directory\n")
    assert await redis.xlen(keys.jobs) == 0


async def test_many_results_are_shown_in_one_call(gsi: Gsi, coordinator: Coordinator) -> None:
    """In the order given, also from standard input; an unknown id does not hide the others."""
    lines = "".join(json.dumps({"prompt": f"say {word}", "id": word}) + "\n" for word in ("a", "b", "fail"))
    async with coordinator():
        await gsi("run", "-", text=lines)
    shown = await gsi("result", "b", "a")
    assert (shown.exit_code, shown.stdout) == (0, "b\na\n")
    piped = await gsi("result", "--json", "-", text="a\nfail\n")
    assert piped.exit_code == 1
    assert [result["id"] for result in read(piped.stdout)] == ["a", "fail"]
    unknown = await gsi("result", "a", "nobody", "b")
    assert (unknown.exit_code, unknown.stdout) == (2, "a\nb\n")
    assert "no job nobody" in unknown.stderr
    late = await gsi("result", "--wait", "--timeout", "0.1", "nobody")
    assert (late.exit_code, late.stderr.startswith("failed  waited 0.1 s for job nobody of queue")) == (1, True)


async def test_jobs_are_listed(gsi: Gsi, coordinator: Coordinator) -> None:
    """As a table, or as JSON lines; of one state."""
    async with coordinator():
        await gsi("run", "-", text='{"prompt": "say a", "id": "a"}\n{"prompt": "say fail", "id": "b"}\n')
    await gsi("submit", "waits")
    listed = await gsi("jobs", "--json")
    assert [job["state"] for job in read(listed.stdout)] == ["QUEUED", "FAILED", "SUCCEEDED"]
    failed = await gsi("jobs", "--state", "failed")
    assert "no such word" in failed.stdout
    assert len([line for line in failed.stdout.splitlines() if "FAILED" in line]) == 1
    assert (await gsi("jobs", "--state", "expired")).stderr == "no jobs\n"


async def test_submitting_to_a_queue_that_does_not_move_says_so(gsi: Gsi) -> None:
    """The id is printed all the same: the job waits."""
    unread = await gsi("submit", "say a")
    assert (unread.exit_code, len(unread.stdout.split())) == (0, 1)
    assert unread.stderr.startswith("waiting  no coordinator reads queue")
    await gsi("queue", "pause")
    assert "is paused" in (await gsi("submit", "say a")).stderr
