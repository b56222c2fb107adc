"""The reader's side of a queue: a job's record and steps, followed or awaited, and the state of the queue."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import ValidationError
from redis.asyncio import Redis

from gsi.jobs.errors import NewerReleaseError, UnknownJobError, WaitTimeoutError
from gsi.jobs.kept_prompt import PROMPT_FIELD, KeptPrompt
from gsi.jobs.keys import Keys
from gsi.jobs.result_document import ResultDocument
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.runtime.code_version import describe_code

OnUnknown: TypeAlias = Callable[[str], None]  # called with a job's id
Entries: TypeAlias = Sequence[tuple[bytes, Mapping[bytes, bytes]]]  # of a stream of steps

FIRST_POLL_SECONDS = 0.01  # a short job is over soon; each pause is half as long again as the one before
WAIT_POLL_SECONDS = 0.1
UNKNOWN_SECONDS = 1.0  # after which a job without a record may be a mistyped id
FIRST_BLOCK_MS = 10  # a job often ends right behind a step; each pause is twice as long as the one before
FOLLOW_BLOCK_MS = 500  # how late a follower may learn that a job has finished without another step


@dataclass(frozen=True)
class JobRecord:
    """A job as it is now, finished or not. ``fields`` is its record as Redis has it; ``document`` is what it says."""

    id: str
    state: JobState
    fields: dict[str, str]
    steps: tuple[StepRecord, ...] = ()

    @cached_property
    def document(self) -> ResultDocument:
        """Return the job with typed fields: ``docs/result.schema.json``."""
        return ResultDocument.from_fields(self.id, self.fields, self.steps)

    @property
    def has_succeeded(self) -> bool:
        return self.state is JobState.SUCCEEDED

    @property
    def text(self) -> str:
        """Return the whole text of the answer, without the prompt; "" until the job has succeeded."""
        return self.fields.get("text", "")

    @property
    def answer(self) -> str | None:
        """Return what the job's answer_pattern found in the text. None: there is no answer."""
        return self.fields.get("answer") or None

    @property
    def error(self) -> str | None:
        """Return why the job ended without an answer. None: there is no error."""
        return self.fields.get("error") or None

    def to_dict(self) -> dict[str, Any]:
        """Return the job's result as JSON values."""
        return self.document.to_dict()


@dataclass(frozen=True, slots=True)
class SetAside:
    """How many jobs are in no lane: dead, delayed, or parked because their tenant has enough jobs in flight."""

    dead: int = 0
    delayed: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Whether an operator has paused the queue, and how many submissions its limit has refused."""

    is_paused: bool = False
    num_refused: int = 0


class JobReader:
    """Reads the jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys

    async def exists(self, job_id: str) -> bool:
        """Return whether there is a record of the job."""
        return bool(await self._redis.exists(self._keys.record(job_id)))

    async def record(self, job_id: str) -> JobRecord | None:
        """Return the job with its steps, or None if there is no record of it."""
        (record,) = await self.records([job_id])
        return record

    async def states(self, job_ids: Sequence[str]) -> list[JobState | None]:
        """Return the state of each job, in one round trip; None: there is no record of the job."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hget(self._keys.record(job_id), "state")
            return [None if state is None else JobState(state.decode()) for state in await pipeline.execute()]

    async def records(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """Return each job with its steps, in one round trip; None: there is no record of the job."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hgetall(self._keys.record(job_id))
                pipeline.xrange(self._keys.steps(job_id))
            answers = await pipeline.execute()
        return [
            _to_record(job_id, fields, steps)
            for job_id, fields, steps in zip(job_ids, answers[::2], answers[1::2], strict=True)
        ]

    async def steps(self, job_id: str) -> list[StepRecord]:
        """Return the kept steps in order. Raises NewerReleaseError for one that this release cannot read."""
        return _to_steps(await self._redis.xrange(self._keys.steps(job_id)))

    async def prompt(self, job_id: str) -> KeptPrompt | None:
        """Return the rendered prompt that the kept steps follow; None from a coordinator of an older release.

        Raises NewerReleaseError for one that this release cannot read.
        """
        written = await self._redis.hget(self._keys.record(job_id), PROMPT_FIELD)
        try:
            return None if written is None else KeptPrompt.from_json(written)
        except ValidationError as error:
            raise _unreadable("kept prompt", error) from None

    async def follow(self, job_id: str, on_unknown: OnUnknown | None = None) -> AsyncIterator[StepRecord]:
        """Yield every step of a job, from the first, as it is kept, until the job has finished.

        Waits for a job that has no record yet: a job that XADD pushed gets its record when it is taken.
        ``on_unknown`` is called with its id if there is none after a second.
        Raises UnknownJobError if its record is deleted meanwhile.
        """
        last = b"0"
        was_seen, block_ms, unknown = False, FIRST_BLOCK_MS, _Unknown(job_id, on_unknown)
        while True:
            state = await self._state(job_id)  # asked first: no step follows the end
            unknown.tell_once(state)
            if was_seen and state is None:
                raise self._deleted(job_id)
            was_seen = state is not None
            is_over = state is not None and state.is_finished
            wait_ms = None if is_over else block_ms
            answer = await self._redis.xread({self._keys.steps(job_id): last}, block=wait_ms)
            block_ms = FIRST_BLOCK_MS if answer else min(2 * block_ms, FOLLOW_BLOCK_MS)
            for entry_id, fields in (entry for _, entries in answer for entry in entries):
                yield read_step(fields[b"step"])
                last = entry_id
            if is_over:
                return

    async def wait(
        self, job_id: str, timeout_seconds: float | None = None, on_unknown: OnUnknown | None = None
    ) -> JobRecord:
        """Return the job once it has finished. Raises WaitTimeoutError if that takes longer than the time-out.

        Waits for a job that has no record yet: ``on_unknown`` is called with its id if there is none after a second.
        Raises UnknownJobError if its record is deleted meanwhile.
        It polls. A follower holds a connection; a waiter holds none, so hundreds may wait at once.
        """
        state, was_seen, pause, unknown = None, False, FIRST_POLL_SECONDS, _Unknown(job_id, on_unknown)
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    state = await self._state(job_id)
                    was_seen = was_seen or state is not None
                    if was_seen and (state is None or state.is_finished):
                        break
                    unknown.tell_once(state)
                    await asyncio.sleep(pause)
                    pause = min(1.5 * pause, WAIT_POLL_SECONDS)
        except TimeoutError:
            found = f"is {state}" if state else "has no record: it was never pushed, or not taken yet"
            waited = f"waited {timeout_seconds:g} s for job {job_id} of queue {self._keys.queue}, which {found}"
            raise WaitTimeoutError(waited, (job_id,)) from None
        record = await self.record(job_id)
        if record is None:
            raise self._deleted(job_id)
        return record

    async def forget(self, job_id: str) -> bool:
        """Delete a finished job's record and steps; return False if there is no such job, or it has not finished.

        A job that was cancelled before anybody had seen it stays until its lifetime ends: its entry may yet come.
        """
        record = self._keys.record(job_id)
        lane = await self._redis.hget(record, "lane")
        return await calls.forget(
            self._redis,
            record=record,
            lane=self._keys.lane_of(lane),
            steps=self._keys.steps(job_id),
        )

    async def config(self) -> QueueConfig:
        """Return whether the queue is paused, and how many submissions its limit has refused."""
        paused, refused = await self._redis.hmget(self._keys.config, "paused", "refused")
        return QueueConfig(paused == b"1", int(refused or 0))

    async def set_aside(self) -> SetAside:
        """Count the jobs that are in no lane."""
        tenants = await self._redis.smembers(self._keys.parked_tenants)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xlen(self._keys.dead)
            pipeline.zcard(self._keys.delayed)
            for tenant in tenants:
                pipeline.llen(self._keys.parked(tenant.decode()))
            dead, delayed, *parked = await pipeline.execute()
        return SetAside(dead, delayed, sum(parked))

    async def _state(self, job_id: str) -> JobState | None:
        state = await self._redis.hget(self._keys.record(job_id), "state")
        return None if state is None else JobState(state.decode())

    @staticmethod
    def _deleted(job_id: str) -> UnknownJobError:
        return UnknownJobError(job_id, f"id: job {job_id} was deleted, or its lifetime has ended")


class _Unknown:
    """Tells once that a job has no record for a second."""

    def __init__(self, job_id: str, tell: OnUnknown | None) -> None:
        self._job_id = job_id
        self._tell = tell
        self._until = asyncio.get_running_loop().time() + UNKNOWN_SECONDS

    def tell_once(self, state: JobState | None) -> None:
        if state is not None:
            self._tell = None
        elif self._tell is not None and asyncio.get_running_loop().time() >= self._until:
            self._tell(self._job_id)
            self._tell = None


def _to_record(job_id: str, fields: Mapping[bytes, bytes], entries: Entries) -> JobRecord | None:
    if b"state" not in fields:
        return None
    texts = {
        name.decode(): value.decode(errors="replace") for name, value in fields.items()
    }  # a payload may be any bytes
    return JobRecord(job_id, JobState(texts["state"]), texts, tuple(_to_steps(entries)))


def _to_steps(entries: Entries) -> list[StepRecord]:
    return [read_step(fields[b"step"]) for _, fields in entries]


def read_step(written: bytes) -> StepRecord:
    """Return a kept step. Raises NewerReleaseError for one that this release cannot read."""
    try:
        return StepRecord.from_json(written)
    except ValidationError as error:
        raise _unreadable("kept step", error) from None


def _unreadable(what: str, error: ValidationError) -> NewerReleaseError:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return NewerReleaseError(
        f"{what}: {place} cannot be read by release {describe_code()} ({first['msg']}); a newer release wrote it: "
        "upgrade what reads it"
    )
