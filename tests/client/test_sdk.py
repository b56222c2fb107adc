"""``AsyncClient``, against a real server and a small coordinator."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gsi import (
    AsyncClient,
    JobConflictError,
    JobState,
    QueueFullError,
    RedisUnavailableError,
    RetryableError,
    UnknownJobError,
    WaitTimeoutError,
)
from gsi.client.sdk import check_job
from gsi.jobs.connection import LOST_CONNECTION
from gsi.jobs.keys import Keys
from gsi.local.embedded_redis import free_port
from tests.client.conftest import Coordinator


@pytest.fixture
async def client(redis_url: str, queue: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url, queue) as connected:
        yield connected


def ask(*words: str) -> list[dict[str, Any]]:
    return [{"id": f"job-{word}", "prompt": f"say {word}"} for word in words]


async def test_a_result_has_types(client: AsyncClient, coordinator: Coordinator) -> None:
    """A job's fields, its steps and its times are values, not the texts that Redis keeps."""
    async with coordinator():
        job_id = await client.submit({"prompt": "say five", "params": {"n": 2}})
        assert [step.text async for step in client.follow(job_id)] == ["about say five\n\n"]
        job = await client.wait(job_id, timeout_seconds=10)
    assert (job.state, job.has_succeeded, job.answer, job.text, job.error) == ("SUCCEEDED", True, "five", "five", None)
    assert job.document.params == {"method": "gsi", "n": 2}
    assert job.document.submitted_at is not None
    assert job.document.submitted_at <= (job.document.finished_at or 0.0)
    assert job.steps[0].reward == 0.5
    assert job == await client.result(job_id)


async def test_jobs_come_as_they_finish(client: AsyncClient, coordinator: Coordinator) -> None:
    """Whatever the order in which they are asked for; those that had finished before come, too; each comes once."""
    async with coordinator():
        first = await client.submit({"prompt": "say first"})
        await client.wait(first)
        rest = [job_id async for job_id in client.submit_many(ask("a", "fail", "c"))]
        found = [job async for job in client.as_completed([*reversed(rest), first, first], timeout_seconds=10)]
    assert [job.id for job in found] == [first, *rest]
    assert [job.answer or job.error for job in found] == ["first", "a", "no such word", "c"]
    assert [job async for job in client.as_completed([])] == []


@pytest.mark.parametrize("is_ordered", [True, False])
async def test_many_jobs_are_run_with_few_in_the_queue(
    client: AsyncClient, coordinator: Coordinator, *, is_ordered: bool
) -> None:
    """Payloads are read as there is room; ordered results come in their order, also of a job that is given twice."""
    words = [f"word-{number}" for number in range(40)]
    num_read = num_done = 0

    def payloads() -> Iterator[Any]:
        nonlocal num_read
        for payload in [*ask(*words), *ask(words[0])]:
            num_read += 1
            assert num_read - num_done <= 8
            yield payload

    answers = []
    async with coordinator():
        async for job in client.map(payloads(), is_ordered=is_ordered, max_in_flight=8):
            num_done += 1
            answers.append(job.answer)
    expected = [*words, words[0]]
    assert answers == expected if is_ordered else sorted(map(str, answers)) == sorted(expected)


async def test_a_full_queue_is_waited_for(
    redis_url: str, queue: str, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``map`` says so once, and goes on when there is room; ``submit`` raises, and says when to come back."""
    monkeypatch.setattr("gsi.jobs.submitter.DEFAULT_PACE_SECONDS", 0.1)
    notices: list[str] = []
    async with AsyncClient(redis_url, queue, notify=notices.append) as client:
        await client.admin.limit(2)
        await client.submit({"prompt": "say a"})
        await client.submit({"prompt": "say b"})
        with pytest.raises(QueueFullError, match=f"queue {queue} is full: 2 jobs; come back in") as full:
            await client.submit({"prompt": "say c"})
        assert full.value.retry_after_seconds == 0.1
        assert full.value.num_jobs == 2
        assert isinstance(full.value, RetryableError)
        async with coordinator():
            assert [job.answer async for job in client.map(ask("c", "d", "e", "f"))] == ["c", "d", "e", "f"]
    assert len([notice for notice in notices if "is full" in notice]) == 1


async def test_an_id_names_one_question(client: AsyncClient, coordinator: Coordinator) -> None:
    """The same payload is the same job, however it is written; another one is an error, also once the job is done."""
    question = {"id": "mine", "prompt": "say a", "params": {"n": 2, "beta": 20.0}}
    question["traceparent"] = f"00-{'1' * 32}-{'1' * 16}-01"
    assert await client.submit(question) == "mine"
    assert await client.submit(question) == "mine"
    written_otherwise = '{"params": {"beta": 20, "n": 2}, "prompt": "say a", "id": "mine"}'
    assert await client.submit(written_otherwise) == "mine"
    async with coordinator():
        await client.wait("mine")
    pushed = client.submit_many([*ask("x"), question, {**question, "prompt": "say b"}, *ask("y")])
    assert [await anext(pushed), await anext(pushed)] == ["job-x", "mine"]
    with pytest.raises(JobConflictError, match="id: job mine exists with another payload") as error:
        await anext(pushed)
    assert error.value.job_id == "mine"
    assert [job.id for job in await client.jobs()] == ["job-x", "mine"]


async def test_an_unknown_job_is_named(client: AsyncClient) -> None:
    """An error of the caller, with the id."""
    with pytest.raises(UnknownJobError, match="no job mine in this queue") as error:
        await client.result("mine")
    assert error.value.job_id == "mine"
    with pytest.raises(UnknownJobError):
        await client.cancel("mine", "not needed")


async def test_a_timeout_says_what_was_waited_for(client: AsyncClient, queue: str) -> None:
    """And it is Python's own TimeoutError, too."""
    job_id = await client.submit({"prompt": "say a"})
    with pytest.raises(TimeoutError, match=f"waited 0.1 s for job {job_id} of queue {queue}, which is QUEUED"):
        await client.wait(job_id, timeout_seconds=0.1)
    with pytest.raises(WaitTimeoutError, match=r"for job nobody .* which has no record"):
        await client.wait("nobody", timeout_seconds=0.1)
    with pytest.raises(WaitTimeoutError, match=f"for 2 jobs of queue {queue}: {job_id}, nobody") as error:
        await anext(client.as_completed([job_id, "nobody"], timeout_seconds=0.1))
    assert error.value.job_ids == (job_id, "nobody")


async def test_a_server_that_is_away_is_named(queue: str) -> None:
    """One error for every call, commands in a pipeline included; its text has no password."""
    port = free_port()
    async with AsyncClient(f"redis://:secret@127.0.0.1:{port}/0", queue) as client:
        calls = (client.result("a"), client.submit({"prompt": "say a"}), client.admin.pause())
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, RedisUnavailableError)
            assert isinstance(error, LOST_CONNECTION)
            assert f"redis://***@127.0.0.1:{port}/0 is unavailable" in str(error)
            assert "secret" not in str(error)


async def test_a_dead_job_that_is_retried_is_waited_for(client: AsyncClient, coordinator: Coordinator) -> None:
    """``as_completed`` yields what has finished, and not what was announced and then pushed again."""
    job_id = await client.submit({"prompt": "say a"})
    waiting = client.as_completed([job_id], timeout_seconds=10)
    redis: Any = client._redis
    found = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0.2)  # it reads results now
    await redis.xadd(client._keys.results, {"id": job_id, "state": JobState.DEAD})
    async with coordinator():
        assert (await found).answer == "a"


async def test_a_checked_job_is_pushed_as_it_is(client: AsyncClient) -> None:
    """So that a program may check all of its jobs before it pushes one."""
    job = check_job({"prompt": "say a"})
    assert [job_id async for job_id in client.submit_many([job])] == [job.job_id]


async def test_the_newest_jobs_are_listed(
    client: AsyncClient, coordinator: Coordinator, redis: Any, keys: Keys
) -> None:
    """The last submitted first, of one state if it is asked for; a job that XADD pushed and nobody took is there."""
    async with coordinator():
        async for _ in client.map([{"prompt": "say a", "id": "a", "tenant": "t"}, {"prompt": "say fail", "id": "b"}]):
            pass
    entry = (await redis.xadd(keys.jobs, {"job": '{"prompt": "c"}'})).decode()
    await client.submit({"prompt": "say d", "id": "d", "params": {"method": "rsd"}})
    jobs = await client.jobs()
    assert [(job.id, job.state) for job in jobs] == [
        ("d", "QUEUED"),
        (entry, "QUEUED"),
        ("b", "FAILED"),
        ("a", "SUCCEEDED"),
    ]
    assert [job.method for job in jobs] == ["rsd", None, "gsi", "gsi"]
    assert (jobs[3].answer, jobs[3].tenant, jobs[3].num_steps) == ("a", "t", 1)
    assert jobs[2].error == "no such word"
    assert [job.id for job in await client.jobs(JobState.FAILED)] == ["b"]
    assert [job.id for job in await client.jobs(JobState.QUEUED, limit=1)] == ["d"]


async def test_the_end_of_a_short_job_is_learnt_at_once(client: AsyncClient, coordinator: Coordinator) -> None:
    """A job ends right behind its last step: nobody waits half a second for that, at the median of ten."""
    seconds = []
    async with coordinator():
        for number in range(10):
            started = time.monotonic()
            job_id = await client.submit({"prompt": f"say {number}"})
            assert [step.index async for step in client.follow(job_id)] == [0]
            assert (await client.wait(job_id)).answer == str(number)
            seconds.append(time.monotonic() - started)
    assert statistics.median(seconds) < 0.4  # of which the coordinator sleeps up to 0.1 s
