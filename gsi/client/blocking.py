"""The synchronous SDK: ``AsyncClient`` behind a thread with an event loop.

with Client() as client:
    for record in client.map([{"prompt": "What is 2 + 3?"}, {"prompt": "What is 3 + 4?"}]):
        print(record.answer)
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from gsi.client.notices import Notify, log_notice
from gsi.client.sdk import (
    DEFAULT_IN_FLIGHT,
    DEFAULT_QUEUE,
    DEFAULT_REDIS_URL,
    AsyncClient,
    Payload,
    check_numbered,
)
from gsi.jobs.connection import RedisAccess
from gsi.jobs.listing import JobSummary
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.submission import MAX_TOGETHER, Submission

T = TypeVar("T")


class Client:
    """Does what ``AsyncClient`` does, from code without ``async``; any number of threads may share it.

    Use it in a ``with``, or ``close`` it. Its errors are those of ``AsyncClient``. A call that is interrupted (Ctrl-C)
    is cancelled; jobs that were pushed stay in the queue.
    """

    def __init__(
        self,
        redis_url: str = DEFAULT_REDIS_URL,
        queue: str = DEFAULT_QUEUE,
        access: RedisAccess | None = None,
        notify: Notify = log_notice,
    ) -> None:
        self._client = AsyncClient(redis_url, queue, access, notify)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gsi client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the thread. ``with`` does it; a second call does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """Do some work with the asynchronous client: ``client.call(lambda client: client.admin.pause())``."""

        async def do() -> T:
            return await work(self._client)

        return self._run(do())

    def submit(self, payload: Payload) -> str:
        """Push a job and return its id: ``AsyncClient.submit``."""
        return self._run(self._client.submit(payload))

    def submit_many(self, payloads: Iterable[Payload | Submission]) -> Iterator[str]:
        """Push jobs in the order given, and yield the id of each: ``AsyncClient.submit_many``."""
        jobs = (check_numbered(number, payload) for number, payload in enumerate(payloads, start=1))
        while group := list(islice(jobs, MAX_TOGETHER)):
            yield from self._iterate(self._client.submit_many(group))

    def follow(self, job_id: str) -> Iterator[StepRecord]:
        """Yield a job's steps, each as soon as it is kept: ``AsyncClient.follow``."""
        return self._iterate(self._client.follow(job_id))

    def wait(self, job_id: str, timeout_seconds: float | None = None) -> JobRecord:
        """Return a job when it has finished: ``AsyncClient.wait``."""
        return self._run(self._client.wait(job_id, timeout_seconds))

    def as_completed(self, job_ids: Iterable[str], timeout_seconds: float | None = None) -> Iterator[JobRecord]:
        """Yield each job when it has finished: ``AsyncClient.as_completed``."""
        return self._iterate(self._client.as_completed(list(job_ids), timeout_seconds))

    def map(
        self,
        payloads: Iterable[Payload | Submission],
        *,
        is_ordered: bool = True,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        has_progress: bool = False,
    ) -> Iterator[JobRecord]:
        """Push jobs, and yield each when it has finished: ``AsyncClient.map``. Another thread reads the payloads."""
        ran = self._client.map(payloads, is_ordered=is_ordered, max_in_flight=max_in_flight, has_progress=has_progress)
        return self._iterate(ran)

    def result(self, job_id: str) -> JobRecord:
        """Return a job as it is now: ``AsyncClient.result``."""
        return self._run(self._client.result(job_id))

    def jobs(self, state: JobState | None = None, limit: int = 20) -> list[JobSummary]:
        """Return the newest jobs of the queue: ``AsyncClient.jobs``."""
        return self._run(self._client.jobs(state, limit))

    def exists(self, job_id: str) -> bool:
        """Return whether there is a record of this job: ``AsyncClient.exists``."""
        return self._run(self._client.exists(job_id))

    def cancel(self, job_id: str, reason: str, *, may_be_unseen: bool = False) -> JobState:
        """Cancel a job and return the state it was in: ``AsyncClient.cancel``."""
        return self._run(self._client.cancel(job_id, reason, may_be_unseen=may_be_unseen))

    def forget(self, job_id: str) -> bool:
        """Delete a finished job with its steps: ``AsyncClient.forget``."""
        return self._run(self._client.forget(job_id))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop; whatever interrupts the caller cancels it."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _iterate(self, found: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self._run(_next(found))
                except _ExhaustedError:
                    return
        finally:
            self._run(found.aclose())


class _ExhaustedError(Exception):
    """An iterator has no more: StopAsyncIteration cannot be raised by a future."""


async def _next(found: AsyncGenerator[T, None]) -> T:
    try:
        return await anext(found)
    except StopAsyncIteration:
        raise _ExhaustedError from None
