"""``Client``: the same, from code without ``async``."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from gsi import Client, InvalidRequestError, JobConflictError, WaitTimeoutError
from tests.client.conftest import Coordinator

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run what has no ``async`` beside this loop, in which the coordinator runs."""
    return await asyncio.to_thread(work)


async def test_it_does_what_the_asynchronous_client_does(redis_url: str, queue: str, coordinator: Coordinator) -> None:
    """Submit, follow, wait, list, cancel and delete."""

    def work() -> None:
        with Client(redis_url, queue) as client:
            job_id = client.submit({"prompt": "say a"})
            assert [step.text for step in client.follow(job_id)] == ["about say a\n\n"]
            assert client.wait(job_id, timeout_seconds=10).answer == "a"
            assert client.result(job_id).has_succeeded
            assert client.exists(job_id)
            assert client.cancel(job_id, "too late") == "SUCCEEDED"
            assert [job.id for job in client.jobs()] == [job_id]
            assert client.forget(job_id)
            assert not client.exists(job_id)

    async with coordinator():
        await in_thread(work)


async def test_it_iterates_over_many_jobs(redis_url: str, queue: str, coordinator: Coordinator) -> None:
    """Ids as they are pushed, results as they come; a loop may be left early."""
    payloads = [{"prompt": f"say {number}", "id": f"job-{number}"} for number in range(300)]

    def work() -> None:
        with Client(redis_url, queue) as client:
            assert list(client.submit_many(payloads)) == [payload["id"] for payload in payloads]
            found = client.as_completed(payload["id"] for payload in payloads[:3])
            assert {job.answer for job in found} == {"0", "1", "2"}
            assert [job.answer for job in client.map(payloads[:10])] == [str(number) for number in range(10)]
            for job in client.map(payloads, is_ordered=False):
                assert job.has_succeeded
                break

    async with coordinator():
        await in_thread(work)


async def test_its_errors_are_the_same(redis_url: str, queue: str) -> None:
    """And they name a payload by its number, over all that were given."""

    def work() -> None:
        with Client(redis_url, queue) as client:
            client.submit({"prompt": "say a", "id": "a"})
            with pytest.raises(JobConflictError):
                client.submit({"prompt": "say b", "id": "a"})
            with pytest.raises(WaitTimeoutError, match="for job a"):
                client.wait("a", timeout_seconds=0.1)
            pushed = client.submit_many([*[{"prompt": "x"}] * 201, {"prompt": ""}])
            with pytest.raises(InvalidRequestError, match="payload 202: prompt"):
                list(pushed)

    await in_thread(work)


async def test_the_queue_is_administered_through_it(redis_url: str, queue: str) -> None:
    """Whatever the asynchronous client has can be called."""

    def work() -> None:
        with Client(redis_url, queue) as client:
            client.call(lambda each: each.admin.pause())
            assert client.call(lambda each: each.admin.stats()).is_paused

    await in_thread(work)


async def test_threads_share_it_and_it_ends_its_own(redis_url: str, queue: str, coordinator: Coordinator) -> None:
    """Closing it twice does no harm."""

    async with coordinator():
        before = threading.active_count()
        client = Client(redis_url, queue)
        ids = await asyncio.gather(
            *(in_thread(lambda: client.wait(client.submit({"prompt": "say a"}))) for _ in range(4))
        )
        assert len({job.id for job in ids}) == 4
        client.close()
        client.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "gsi client"]
        assert threading.active_count() <= before + 4  # those of to_thread


INTERRUPTED = """
import sys
from gsi import Client
with Client(sys.argv[1], sys.argv[2]) as client:
    job_id = client.submit({"prompt": "say a"})
    print(job_id, flush=True)
    try:
        for _ in getattr(client, sys.argv[3])([job_id] if sys.argv[3] == "as_completed" else job_id):
            pass
    except KeyboardInterrupt:
        print(client.result(job_id).state)
"""


@pytest.mark.parametrize("method", ["follow", "wait", "as_completed"])
def test_ctrl_c_ends_a_wait_and_the_client_goes_on(redis_url: str, queue: str, method: str) -> None:
    """The call is cancelled, whatever it waits for; nothing is left that complains."""
    command = [sys.executable, "-c", INTERRUPTED, redis_url, queue, method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        time.sleep(1.0)  # it waits now: nothing in Redis says so
        running.send_signal(signal.SIGINT)
        shown, said = running.communicate(timeout=20)
    assert (running.returncode, shown) == (0, "QUEUED\n")
    assert [line for line in said.splitlines() if "no coordinator reads" not in line] == []
