"""``gsi submit --file`` and the SDK's ``submit_many``, against a real server: order, refusals, and what is pushed."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gsi.cli import job_file
from gsi.cli.job_file import keep_all, read_jobs
from gsi.cli.main import app
from gsi.client.sdk import AsyncClient, check_job
from gsi.errors import InvalidRequestError
from gsi.jobs.connection import Redis
from gsi.jobs.job import parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.submission import Submission
from gsi.limits import MAX_PAYLOAD_BYTES


async def gsi(redis_url: str, queue: str, *arguments: str, text: str | bytes | None = None) -> Result:
    """Run a command of ``gsi``: in a thread, because it runs a loop of its own."""
    command = [*arguments, "--redis-url", redis_url, "--queue", queue]
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, command, input=text))


def write_jobs(file: Path, number: int) -> list[str]:
    """Write a file of jobs; return their ids."""
    ids = [f"job-{each}" for each in range(number)]
    file.write_text("".join(json.dumps({"id": each, "prompt": f"What is {each}?"}) + "\n" for each in ids))
    return ids


async def entries(redis: Any, queue: str) -> list[dict[str, Any]]:
    """Return the payloads in the queue, in order."""
    return [json.loads(fields[b"job"]) for _, fields in await redis.xrange(Keys(queue).jobs)]


async def test_a_file_is_pushed_in_its_order(redis: Redis, redis_url: str, queue: str, tmp_path: Path) -> None:
    """The ids are printed in that order; a prompt of the command line goes first, and -p is of all."""
    ids = write_jobs(tmp_path / "jobs.jsonl", 500)
    pushed = await gsi(redis_url, queue, "submit", "first", "--file", str(tmp_path / "jobs.jsonl"), "-p", "n=3")
    assert pushed.exit_code == 0
    assert pushed.stdout.split()[1:] == ids
    payloads = await entries(redis, queue)
    assert [payload["id"] for payload in payloads] == pushed.stdout.split()
    assert {payload["params"]["n"] for payload in payloads} == {3}


@pytest.mark.parametrize(
    ("line", "params", "message"),
    [
        ('{"prompt": "b", "params": {"n": 0}}', (), "line 3: params.n: 0 is not allowed"),
        (
            '{"prompt": "b", "params": {"temperature": 0}}',
            ("-p", "method=gsi"),
            "line 3: params.temperature: 0 is greedy",
        ),
        ("{", (), "line 3: job: not JSON"),
        ("[1]", (), "line 3: job: "),
        ('{"prompt": "' + "x" * MAX_PAYLOAD_BYTES + '"}', (), f"allowed: at most {MAX_PAYLOAD_BYTES}"),
    ],
    ids=["wrong", "wrong with -p", "not JSON", "no object", "too long"],
)
async def test_a_refused_line_is_named_and_nothing_is_pushed(
    line: str, params: tuple[str, ...], message: str, redis: Redis, redis_url: str, queue: str, tmp_path: Path
) -> None:
    """Empty lines count, since an editor counts them."""
    file = tmp_path / "jobs.jsonl"
    good = json.dumps({"prompt": "a", "params": {"method": "soft-best-of-n:draft"}})
    file.write_text(f"{good}\n\n{line}\n{good}\n")
    refused = await gsi(redis_url, queue, "submit", "--file", str(file), *params)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert "line 3" in refused.stderr
    assert await entries(redis, queue) == []


async def test_a_line_may_hold_any_character_that_json_allows(redis: Redis, redis_url: str, queue: str) -> None:
    """U+2028 ends a line for some programs, and not in JSON Lines; a line may also end as Windows ends it."""
    text = '{"prompt": "one\u2028two"}\r\n{"prompt": "three"}'.encode()
    assert (await gsi(redis_url, queue, "submit", "--file", "-", text=text)).exit_code == 0
    assert [payload["prompt"] for payload in await entries(redis, queue)] == ["one\u2028two", "three"]


@pytest.mark.parametrize("text", ["", "\n \n"])
async def test_nothing_to_submit_is_refused(redis_url: str, queue: str, text: str) -> None:
    """An empty file is more likely a mistake than a wish."""
    refused = await gsi(redis_url, queue, "submit", "--file", "-", text=text)
    assert refused.exit_code == 2
    assert "nothing to submit" in refused.stderr


async def test_a_full_queue_keeps_the_jobs_whose_ids_were_printed(redis_url: str, queue: str, tmp_path: Path) -> None:
    """And the exit code says that the rest may be submitted later."""
    ids = write_jobs(tmp_path / "jobs.jsonl", 10)
    await gsi(redis_url, queue, "queue", "limit", "4")
    refused = await gsi(redis_url, queue, "submit", "--file", str(tmp_path / "jobs.jsonl"))
    assert (refused.exit_code, refused.stdout.split()) == (75, ids[:4])


def test_the_memory_of_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jobs wait in a temporary file, and are read from there one by one."""
    monkeypatch.setattr(job_file, "MEMORY_BYTES", 100_000)
    file = tmp_path / "jobs.jsonl"
    with file.open("w") as lines:
        lines.writelines(json.dumps({"prompt": "x" * 10_000}) + "\n" for _ in range(1000))
    tracemalloc.start()
    try:
        with keep_all(read_jobs(str(file), {})) as jobs:
            num_jobs = sum(1 for _ in jobs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_jobs == 1000
    assert peak < 2_000_000  # of ten million


async def test_the_sdk_pushes_payloads_of_every_kind_as_they_are_read(redis: Redis, redis_url: str, queue: str) -> None:
    """It checks each, names the one at fault by its number, and reads no further."""
    read: list[int] = []

    def payloads() -> Iterator[Any]:
        for number, payload in enumerate(given, start=1):
            read.append(number)
            yield payload

    good = [{"prompt": "a"}, '{"prompt": "b"}', parse_payload({"prompt": "c"}), check_job({"prompt": "d", "id": "d"})]
    async with AsyncClient(redis_url, queue) as client:
        given = [*good]
        ids = [job_id async for job_id in client.submit_many(payloads())]
        assert ids[3] == "d"
        assert [payload["prompt"] for payload in await entries(redis, queue)] == ["a", "b", "c", "d"]
        given = [*good, {"prompt": ""}, *good]
        read.clear()
        with pytest.raises(InvalidRequestError, match=r"^payload 5: prompt: \"\" is not allowed"):
            await anext(client.submit_many(payloads()))
    assert read == [1, 2, 3, 4, 5]
    assert len(await entries(redis, queue)) == 4


def test_a_checked_job_has_an_id() -> None:
    """The same each time that it is pushed, so that it runs once."""
    job = check_job({"prompt": "a"})
    assert isinstance(job, Submission)
    assert json.loads(job.payload)["id"] == job.job_id
