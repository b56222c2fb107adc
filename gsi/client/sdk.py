"""The SDK: submit a job, follow its steps, read its result.

async with Client("redis://127.0.0.1:6379/0") as client:
    job_id = await client.submit({"prompt": "What is 2 + 3?", "params": {"n": 4}})
    async for record in client.follow(job_id):
        print(record.text)
    print((await client.result(job_id)).fields["answer"])
"""

import secrets
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from gsi.errors import InvalidRequestError
from gsi.jobs.admin import QueueAdmin
from gsi.jobs.connection import RedisAccess, connect
from gsi.jobs.dead_letters import DeadLetters
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.payload import JobPayload
from gsi.jobs.reader import JobReader, JobRecord
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.runtime.tracing import current_traceparent

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
DEFAULT_QUEUE = "default"
MAX_REASON_CHARACTERS = 1000


class Client:
    """A user of one queue. ``dead``: its dead letters.

    ``access`` None: the files that ``GSI_REDIS_PASSWORD_FILE``, ``GSI_REDIS_TLS_CA``, … name, if any.
    Raises MisconfiguredError for a URL or files that cannot be used.
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
        """Push a job and return its id; of a job with this id or idempotency key, if there is one already.

        Its trace is that of the caller's own OpenTelemetry span, if one is active and the payload names no other.
        Raises InvalidRequestError that names the field and what is allowed, and RetryableError if the queue is full.
        """
        checked = payload if isinstance(payload, JobPayload) else parse_payload(payload)
        if checked.traceparent is None:
            checked = checked.model_copy(update={"traceparent": current_traceparent()})
        job = Job(checked.id or secrets.token_hex(12), checked)
        return await self._submitter.submit(job)

    def follow(self, job_id: str) -> AsyncIterator[StepRecord]:
        """Yield every step of a job as it is kept, from the first, until the job has finished."""
        return self._reader.follow(job_id)

    async def is_served(self) -> bool:
        """Return whether a coordinator has read this queue since its server began. Raises if the server is away."""
        return await self._stream.has_group()

    async def exists(self, job_id: str) -> bool:
        """Return whether there is a record of this job; one pushed by XADD gets it when it is taken."""
        return await self._reader.exists(job_id)

    async def result(self, job_id: str) -> JobRecord:
        """Return a job as it is now. Raises InvalidRequestError if there is none of this id."""
        record = await self._reader.record(job_id)
        if record is None:
            raise _unknown(job_id)
        return record

    async def cancel(self, job_id: str, reason: str, *, may_be_unseen: bool = False) -> JobState:
        """Cancel a job and return the state that it was in. Its kept steps and the reason, as its error, stay.

        A queued one is CANCELLED when this returns. A running one is soon, unless it ends by itself first. A finished
        one stays as it is. Raises InvalidRequestError if there is no job of this id, unless it ``may_be_unseen``
        (pushed by XADD, taken by nobody yet): then it is marked, and dropped when it comes.
        """
        if not 1 <= len(reason) <= MAX_REASON_CHARACTERS:
            raise InvalidRequestError(f"reason: {len(reason)} characters; allowed: 1 to {MAX_REASON_CHARACTERS}")
        state = await self._submitter.cancel(job_id, reason, may_be_unseen=may_be_unseen)
        if state is None:
            raise _unknown(job_id)
        return state

    async def forget(self, job_id: str) -> bool:
        """Delete a finished job with its steps; return False if there is none, or it has not finished."""
        return await self._reader.forget(job_id)

    async def wait(self, job_id: str, timeout_seconds: float | None = None) -> JobRecord:
        """Return a job once it has finished. Raises TimeoutError if that takes too long."""
        return await self._reader.wait(job_id, timeout_seconds)


def _unknown(job_id: str) -> InvalidRequestError:
    return InvalidRequestError(f"id: no job {job_id} in this queue (yet: a pushed one appears when it is taken)")
