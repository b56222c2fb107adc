"""The SDK: submit a job, follow its steps, read its result.

async with AsyncClient("redis://127.0.0.1:6379/0") as client:
    job_id = await client.submit({"prompt": "What is 2 + 3?", "params": {"n": 4}})
    async for record in client.follow(job_id):
        print(record.text)
    print((await client.result(job_id)).fields["answer"])
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from gsi.errors import InvalidRequestError
from gsi.jobs.admin import QueueAdmin
from gsi.jobs.connection import RedisAccess, connect
from gsi.jobs.dead_letters import DeadLetters
from gsi.jobs.job import Job, new_id, parse_job
from gsi.jobs.keys import Keys
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
MAX_REASON_CHARACTERS = 1000


class AsyncClient:
    """Submits jobs to one queue, follows and reads them. ``dead`` has the queue's dead jobs, ``admin`` its controls.

    ``access`` None: the files that ``GSI_REDIS_PASSWORD_FILE``, ``GSI_REDIS_TLS_CA``, … name, if they are set.
    Raises MisconfiguredError for a URL or a file that cannot be used.
    """

    def __init__(
        self, redis_url: str = DEFAULT_REDIS_URL, queue: str = DEFAULT_QUEUE, access: RedisAccess | None = None
    ) -> None:
        self._redis = connect(redis_url, RedisAccess.from_environment() if access is None else access, queue)
        self.dead = DeadLetters(self._redis, Keys(queue))
        self._submitter = JobSubmitter(self._redis, Keys(queue))
        self._reader = JobReader(self._redis, Keys(queue))
        self._stream = JobStream(self._redis, Keys(queue), consumer="")
        self.admin = QueueAdmin(self._redis, Keys(queue))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._redis.aclose()

    async def submit(self, payload: JobPayload | Mapping[str, Any] | str) -> str:
        """Push a job and return its id. If a job has this id or idempotency key, push nothing and return that job's id.

        The job joins the trace of the caller's active OpenTelemetry span, unless the payload names another trace.
        Raises InvalidRequestError that names the field and what is allowed, and RetryableError if the queue is full.
        """
        return await self._submitter.submit(_to_job(payload))

    def submit_many(
        self, payloads: Iterable[JobPayload | Mapping[str, Any] | str | Submission]
    ) -> AsyncGenerator[str, None]:
        """Push jobs in the order given, and yield the id of each as ``submit`` returns it: hundreds in a round trip.

        Payloads are read as they are pushed, so there may be any number of them; a ``Submission`` (``check_job``) is
        not checked again. Raises what ``submit`` raises, and names a payload at fault by its number, from 1 on. The
        jobs whose ids came before are pushed, and no others; but if the connection is lost, or the caller stops
        reading, some of the next may be.
        """
        return self._submitter.submit_many(
            _check_numbered(number, payload) for number, payload in enumerate(payloads, start=1)
        )

    def follow(self, job_id: str) -> AsyncIterator[StepRecord]:
        """Yield a job's steps from the first on, each as soon as it is kept, until the job has finished."""
        return self._reader.follow(job_id)

    async def is_served(self) -> bool:
        """Return whether a coordinator has read this queue on this server. Raises if the server is unavailable."""
        return await self._stream.has_group()

    async def exists(self, job_id: str) -> bool:
        """Return whether there is a record of this job. A job pushed by XADD gets its record when it is taken."""
        return await self._reader.exists(job_id)

    async def result(self, job_id: str) -> JobRecord:
        """Return a job as it is now. Raises InvalidRequestError if no job has this id."""
        record = await self._reader.record(job_id)
        if record is None:
            raise _unknown(job_id)
        return record

    async def cancel(self, job_id: str, reason: str, *, may_be_unseen: bool = False) -> JobState:
        """Cancel a job and return the state it was in. The reason becomes the job's error; the kept steps stay.

        A queued job is CANCELLED when this returns. A running job is cancelled within a second, unless it ends before.
        A finished job is not changed. Raises InvalidRequestError if no job has this id, unless the job
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

    async def wait(self, job_id: str, timeout_seconds: float | None = None) -> JobRecord:
        """Return a job when it has finished. Raises TimeoutError after ``timeout_seconds``; None: no limit."""
        return await self._reader.wait(job_id, timeout_seconds)


def check_job(payload: JobPayload | Mapping[str, Any] | str | bytes) -> Submission:
    """Return a job that is ready to be pushed, with an id. Raises InvalidRequestError as ``AsyncClient.submit`` does."""
    return Submission.of(_to_job(payload))


def _check_numbered(number: int, payload: JobPayload | Mapping[str, Any] | str | Submission) -> Submission:
    try:
        return payload if isinstance(payload, Submission) else check_job(payload)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"payload {number}: {error}") from None


def _to_job(payload: JobPayload | Mapping[str, Any] | str | bytes) -> Job:
    """Check a payload, and give it an id and the caller's trace where it names none."""
    job = Job(payload.id or new_id(), payload) if isinstance(payload, JobPayload) else parse_job(payload)
    if job.payload.traceparent is None and (traceparent := current_traceparent()):
        return Job(job.id, job.payload.model_copy(update={"traceparent": traceparent}))
    return job


def _unknown(job_id: str) -> InvalidRequestError:
    return InvalidRequestError(f"id: no job {job_id} in this queue (yet: a pushed one appears when it is taken)")
