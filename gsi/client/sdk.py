"""The asynchronous SDK: submit jobs, follow their steps, read their results.

async with AsyncClient("redis://127.0.0.1:6379/0") as client:
    job_id = await client.submit({"prompt": "What is 2 + 3?", "params": {"n": 4}})
    async for record in client.follow(job_id):
        print(record.text)
    print((await client.result(job_id)).answer)
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence, Sized
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeAlias

from gsi.client.batch import map_jobs
from gsi.client.notices import Notices, Notify, log_notice
from gsi.errors import InvalidRequestError
from gsi.jobs.admin import QueueAdmin
from gsi.jobs.board import BoardReader
from gsi.jobs.completions import Completions
from gsi.jobs.connection import RedisAccess, connect_user
from gsi.jobs.dead_letters import DeadLetters
from gsi.jobs.errors import UnknownJobError
from gsi.jobs.job import Job, new_id, parse_job
from gsi.jobs.keys import Keys
from gsi.jobs.listing import JobFilter, JobList, JobSummary
from gsi.jobs.obstacle import find_obstacle
from gsi.jobs.payload import JobPayload
from gsi.jobs.reader import JobReader, JobRecord
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import JobStream
from gsi.jobs.submission import Submission
from gsi.jobs.submitter import JobSubmitter
from gsi.runtime.tracing import current_traceparent

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
DEFAULT_QUEUE = "default"
DEFAULT_IN_FLIGHT = 256  # coordinators of a large system hold some tens of jobs each
MAX_REASON_CHARACTERS = 1000

Payload: TypeAlias = JobPayload | Mapping[str, Any] | str  # checked; as a dictionary; as JSON


class AsyncClient:
    """Submits jobs to one queue, follows and reads them. ``dead`` has the queue's dead jobs, ``admin`` its controls.

    ``access`` None: the files that ``GSI_REDIS_PASSWORD_FILE``, ``GSI_REDIS_TLS_CA``, … name, if they are set.
    ``notify`` gets a sentence when a wait may be long: nobody reads the queue, it is paused, a job is unknown.
    Raises MisconfiguredError for a URL or a file that cannot be used. Every method raises RedisUnavailableError after
    three seconds of a server that does not answer, and RedisRefusedError for wrong credentials.
    """

    def __init__(
        self,
        redis_url: str = DEFAULT_REDIS_URL,
        queue: str = DEFAULT_QUEUE,
        access: RedisAccess | None = None,
        notify: Notify = log_notice,
    ) -> None:
        keys = Keys(queue)
        redis = connect_user(redis_url, RedisAccess.from_environment() if access is None else access, queue)
        self._redis, self._keys, self._notify = redis, keys, notify
        self._submitter = JobSubmitter(redis, keys)
        self._reader = JobReader(redis, keys)
        self._stream = JobStream(redis, keys, consumer="")
        self._notices = Notices(lambda: find_obstacle(redis, keys), notify)
        self.dead = DeadLetters(redis, keys)
        self.admin = QueueAdmin(redis, keys)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. ``async with`` does it."""
        await self._redis.aclose()

    async def submit(self, payload: Payload) -> str:
        """Push a job and return its id. If a job has this id or idempotency key, push nothing and return that job's id.

        The job joins the trace of the caller's active OpenTelemetry span, unless the payload names another trace.
        Raises InvalidRequestError that names the field and what is allowed, JobConflictError if the job of this id
        has another payload, and QueueFullError, which says when to come back.
        """
        return await self._submitter.submit(_to_job(payload))

    def submit_many(self, payloads: Iterable[Payload | Submission]) -> AsyncGenerator[str, None]:
        """Push jobs in the order given, and yield the id of each as ``submit`` returns it: hundreds in a round trip.

        Payloads are read as they are pushed, so there may be any number of them; a ``Submission`` (``check_job``) is
        not checked again. Raises what ``submit`` raises, and names a payload at fault by its number, from 1 on. The
        jobs whose ids came before are pushed, and no others; but if the connection is lost, or the caller stops
        reading, some of the next may be.
        """
        return self._submitter.submit_many(
            check_numbered(number, payload) for number, payload in enumerate(payloads, start=1)
        )

    async def follow(self, job_id: str) -> AsyncGenerator[StepRecord, None]:
        """Yield a job's steps from the first on, each as soon as it is kept, until the job has finished."""
        with self._notices.waiting():
            async for step in self._reader.follow(job_id, self._tell_unknown):
                yield step

    async def wait(self, job_id: str, timeout_seconds: float | None = None) -> JobRecord:
        """Return a job when it has finished. Raises WaitTimeoutError after ``timeout_seconds``; None: no limit.

        A job without a record is waited for, since a program may yet push it; ``notify`` is told.
        """
        with self._notices.waiting():
            return await self._reader.wait(job_id, timeout_seconds, self._tell_unknown)

    async def as_completed(
        self, job_ids: Iterable[str], timeout_seconds: float | None = None
    ) -> AsyncGenerator[JobRecord, None]:
        """Yield each job once, when it has finished, the first to finish first: any number of jobs on one connection.

        Raises WaitTimeoutError, which names the jobs that have not finished, after ``timeout_seconds``.
        """
        completions = Completions(self._redis, self._keys)
        for job_id in job_ids:
            completions.add(job_id)
        until = None if timeout_seconds is None else asyncio.get_running_loop().time() + timeout_seconds
        with self._notices.waiting():
            while records := await completions.next(until):
                for record in records:
                    yield record

    async def map(
        self,
        payloads: Iterable[Payload | Submission],
        *,
        is_ordered: bool = True,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        has_progress: bool = False,
    ) -> AsyncGenerator[JobRecord, None]:
        """Push jobs, and yield each when it has finished: in the order given, or (``is_ordered`` False) as they finish.

        Payloads are read as there is room: at most ``max_in_flight`` jobs are in the queue or, ordered, wait for an
        earlier one. A full queue is waited for. ``has_progress``: a bar on standard error. A job that ends without an
        answer is yielded, too: see its ``state`` and ``error``.
        """
        jobs = (check_numbered(number, payload) for number, payload in enumerate(payloads, start=1))
        total = len(payloads) if isinstance(payloads, Sized) else None
        completions = Completions(self._redis, self._keys)
        ran = map_jobs(self._submitter, completions, jobs, self._notify, max_in_flight, is_ordered=is_ordered)
        with self._notices.waiting():
            async with aclosing(_show_progress(ran, total) if has_progress else ran) as records:
                async for record in records:
                    yield record

    async def tell_obstacle(self) -> None:
        """Tell ``notify`` at once if jobs of this queue wait for long: it is paused, or no coordinator reads it."""
        await self._notices.look()

    async def is_served(self) -> bool:
        """Return whether a coordinator has read this queue on this server. Raises if the server is unavailable."""
        return await self._stream.has_group()

    async def exists(self, job_id: str) -> bool:
        """Return whether there is a record of this job. A job pushed by XADD gets its record when it is taken."""
        return await self._reader.exists(job_id)

    async def result(self, job_id: str) -> JobRecord:
        """Return a job as it is now. Raises UnknownJobError if no job has this id."""
        record = await self._reader.record(job_id)
        if record is None:
            raise _unknown(job_id)
        return record

    async def states(self, job_ids: Sequence[str]) -> list[JobState | None]:
        """Return the state of each job, in one round trip; None: no job has this id."""
        return await self._reader.states(job_ids)

    async def jobs(self, state: JobState | None = None, limit: int = 20) -> list[JobSummary]:
        """Return the newest jobs of the queue, the newest first; of one state alone if it is given."""
        return await JobList(self._redis, self._keys).newest(JobFilter(state), limit)

    def board(self, num_jobs: int = 20) -> BoardReader:
        """Return what looks at the queue again and again: its counts, its coordinators, and its newest jobs."""
        return BoardReader(self._redis, self._keys, num_jobs)

    async def cancel(self, job_id: str, reason: str, *, may_be_unseen: bool = False) -> JobState:
        """Cancel a job and return the state it was in. The reason becomes the job's error; the kept steps stay.

        A queued job is CANCELLED when this returns. A running job is cancelled within a second, unless it ends before.
        A finished job is not changed. Raises UnknownJobError if no job has this id, unless the job
        ``may_be_unseen`` (pushed by XADD and not taken yet): then it is marked, and dropped when it is delivered.
        """
        if not 1 <= len(reason) <= MAX_REASON_CHARACTERS:
            raise InvalidRequestError(f"reason: {len(reason)} characters; allowed: 1 to {MAX_REASON_CHARACTERS}")
        state = await self._submitter.cancel(job_id, reason, may_be_unseen=may_be_unseen)
        if state is None:
            raise _unknown(job_id)
        return state

    async def forget(self, job_id: str) -> bool:
        """Delete a finished job with its steps. Return False if there is no such job, or it has not finished."""
        return await self._reader.forget(job_id)

    def _tell_unknown(self, job_id: str) -> None:
        self._notify(f"queue {self._keys.queue} has no job {job_id} yet: it was never pushed, or not taken yet")


def check_job(payload: Payload | bytes) -> Submission:
    """Return a job that is ready to be pushed, with an id.

    Raises InvalidRequestError as ``AsyncClient.submit`` does.
    """
    return Submission.of(_to_job(payload))


def check_numbered(number: int, payload: Payload | Submission) -> Submission:
    """Check the payload of this number. Raises InvalidRequestError that names the number."""
    try:
        return payload if isinstance(payload, Submission) else check_job(payload)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"payload {number}: {error}") from None


async def _show_progress(
    records: AsyncGenerator[JobRecord, None], total: int | None
) -> AsyncGenerator[JobRecord, None]:
    from gsi.client.progress import job_progress  # noqa: PLC0415 (rich takes longer to import than the rest)

    with job_progress(total) as advance:
        async with aclosing(records):
            async for record in records:
                advance(record)
                yield record


def _to_job(payload: Payload | bytes) -> Job:
    """Check a payload, and give it an id and the caller's trace where it names none."""
    job = Job(payload.id or new_id(), payload) if isinstance(payload, JobPayload) else parse_job(payload)
    if job.payload.traceparent is None and (traceparent := current_traceparent()):
        return Job(job.id, job.payload.model_copy(update={"traceparent": traceparent}))
    return job


def _unknown(job_id: str) -> UnknownJobError:
    return UnknownJobError(job_id, f"id: no job {job_id} in this queue (yet: a pushed one appears when it is taken)")
