"""The jobs of one request, from their submission to their ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from gsi.algorithm.stopping import StopReason
from gsi.errors import InvalidRequestError, RetryableError
from gsi.jobs.connection import RedisError
from gsi.jobs.feed import Watch
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from services.gateway import metrics
from services.gateway.errors import ApiError, refuse_job
from services.gateway.queues import Queue
from services.gateway.texts import Delta, ReasoningSplitter, StopCutter
from services.gateway.tokens import Tokens
from services.gateway.translation import Order

log = structlog.get_logger()

CLIENT_IS_GONE = "the client of the gateway went away"
ENDED_AT_A_LIMIT = frozenset({StopReason.MAX_STEPS, StopReason.MAX_TOKENS})
NO_RETRY = {"x-should-retry": "false"}  # OpenAI's clients would ask again, though the job was tried often enough


@dataclass(slots=True)
class Choice:
    """A job on its way to an answer. ``record`` is there once the job has finished."""

    index: int
    job_id: str
    watch: Watch | None  # None: nobody follows it
    is_repeated: bool = False  # the job is an earlier request's, which has the same idempotency key
    steps: list[StepRecord] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    record: JobRecord | None = None

    def add(self, step: StepRecord) -> None:
        self.steps.append(step)
        self.tokens.add_step(step)

    @property
    def finish_reason(self) -> str:
        """OpenAI's word for why the answer ended."""
        reason = self.record.fields.get("stop_reason") if self.record else None
        return "length" if reason in ENDED_AT_A_LIMIT else "stop"


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new of a choice: a kept step, the text that it releases, or the end."""

    choice: Choice
    delta: Delta
    step: StepRecord | None = None
    is_end: bool = False


class Answers:
    """The choices of a request. Use it as a context: whatever happens, no job is left without anybody who wants it."""

    def __init__(self, order: Order, queue: Queue, choices: list[Choice]) -> None:
        self.order = order
        self.choices = choices
        self._queue = queue
        self._submitted_at: float | None = None  # on the clock of perf_counter, until a step is kept

    def note_submission(self) -> None:
        """Begin the time to the first step."""
        self._submitted_at = time.perf_counter()

    def _note_step(self) -> None:
        if self._submitted_at is not None:
            metrics.FIRST_STEP_SECONDS.observe(time.perf_counter() - self._submitted_at)
            self._submitted_at = None

    @property
    def tokens(self) -> Tokens:
        """The tokens of all choices. The prompt is counted once for each job, which reads it."""
        total = Tokens()
        for choice in self.choices:
            total.add(choice.tokens)
        return total

    @property
    def spent(self) -> Tokens:
        """The tokens of the jobs that this request has made: an earlier request counts its own."""
        total = Tokens()
        for choice in self.choices:
            if not choice.is_repeated:
                total.add(choice.tokens)
        return total

    async def wait(self) -> None:
        """Return when every job has succeeded. Raises ApiError for a job that ends without an answer."""
        await _all([self._read(choice) for choice in self.choices])

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Yield what is new, of all choices in turn. Raises ApiError for a job that ends without an answer."""
        made: asyncio.Queue[Piece | None] = asyncio.Queue()

        async def read_all() -> None:
            try:
                await _all([self._read_pieces(choice, made.put_nowait) for choice in self.choices])
            finally:
                made.put_nowait(None)

        reading = asyncio.create_task(read_all())
        try:
            while (piece := await made.get()) is not None:
                yield piece
            await reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    @property
    def unfinished(self) -> list[Choice]:
        """The choices whose jobs still wait or run, as far as is known."""
        return [choice for choice in self.choices if choice.record is None]

    async def cancel_unfinished(self) -> None:
        """Cancel the jobs that still wait or run."""
        for choice in self.unfinished:
            with suppress(InvalidRequestError, RedisError):
                await self._queue.client.cancel(choice.job_id, CLIENT_IS_GONE)

    async def wait_without_client(self) -> None:
        """Wait for jobs that go on without a client, so that their tokens are counted."""
        for choice in self.unfinished:
            with suppress(InvalidRequestError, ApiError):
                await self._queue.client.wait(choice.job_id)
                await self._read_record(choice)

    def message_of(self, choice: Choice) -> Delta:
        """Return the whole message of a choice that has finished."""
        return message_of(choice.record) if choice.record else Delta()

    @property
    def finished_at(self) -> int:
        """When the last of the jobs ended, in seconds since 1970."""
        ends = (choice.record.fields.get("finished_at") for choice in self.choices if choice.record)
        return max(int(end or 0) // 1000 for end in ends)

    async def read_ends(self) -> None:
        """Read how each job ended. Raises ApiError for one without an answer, InvalidRequestError if unknown."""
        for choice in self.choices:
            await self._read_record(choice)

    async def _read(self, choice: Choice) -> None:
        async for step in _steps_of(choice):
            self._note_step()
            choice.add(step)
        await self._read_record(choice)

    async def _read_pieces(self, choice: Choice, put: Callable[[Piece], None]) -> None:
        cutter, splitter = StopCutter(self.order.stop), ReasoningSplitter(self.order.thinking)
        may_send = True
        async for step in _steps_of(choice):
            self._note_step()
            choice.add(step)
            may_send = may_send and self._is_final(step)
            delta = splitter.feed(cutter.feed(step.text)) if may_send else Delta()
            put(Piece(choice, delta, step))
        whole = message_of(await self._read_record(choice))  # with what was not known to be part of it before
        put(Piece(choice, splitter.finish(whole.content, whole.reasoning), is_end=True))

    def _is_final(self, step: StepRecord) -> bool:
        """Return whether the step is part of the answer, whatever follows.

        Of several trajectories one becomes the answer at the end. A step of low reward may be dropped.
        """
        least = self.order.drops_low_step_below
        is_low = least is not None and step.best_reward is not None and not step.best_reward >= least
        return not step.branches and not is_low

    async def _read_record(self, choice: Choice) -> JobRecord:
        """Read how a job ended. Raises ApiError if it has no answer."""
        record = await self._queue.client.result(choice.job_id)
        for step in record.steps[len(choice.steps) :]:
            choice.add(step)
        choice.record = record
        choice.tokens.prompt = int(record.fields.get("prompt_tokens") or 0)
        if record.state is not JobState.SUCCEEDED:
            raise _explain_end(record)
        return record


def message_of(record: JobRecord) -> Delta:
    """Return the whole message of a job that has succeeded."""
    return Delta(record.fields.get("text", ""), record.fields.get("reasoning", ""))


async def _steps_of(choice: Choice) -> AsyncIterator[StepRecord]:
    """Yield the steps of a job as they are kept, until it has finished."""
    if choice.watch is None:
        return
    async with aclosing(choice.watch.steps()) as steps:
        async for step in steps:
            yield step


def _explain_end(record: JobRecord) -> ApiError:
    """Return the error of a job that ended without an answer."""
    reason = record.fields.get("error") or record.fields.get("dead_reason") or "no reason is known"
    match record.state:
        case JobState.FAILED:
            return refuse_job(InvalidRequestError(reason))
        case JobState.EXPIRED:
            return ApiError(504, f"job {record.id} {reason}", kind="timeout", code="deadline_passed", headers=NO_RETRY)
        case JobState.CANCELLED:
            return ApiError(409, f"job {record.id} was cancelled: {reason}", code="job_cancelled", headers=NO_RETRY)
        case _:
            return ApiError(
                500, f"job {record.id} failed: {reason}", kind="server_error", code="job_dead", headers=NO_RETRY
            )


@asynccontextmanager
async def following(order: Order, queue: Queue, job_id: str) -> AsyncIterator[Answers]:
    """Follow a job that was submitted before while the block runs. It goes on whatever happens to its follower."""
    with queue.feed.watch(job_id) as watch:
        await queue.feed.refresh()
        await queue.feed.check_states()
        yield Answers(order, queue, [Choice(0, job_id, watch)])


async def submit(answers: Answers, queue: Queue, stack: ExitStack) -> None:
    """Push the jobs of a request, which are watched while ``stack`` is open. Raises ApiError if the queue is full."""
    try:
        _, job_ids = await asyncio.gather(queue.feed.refresh(), _collect(queue.client.submit_many(answers.order.jobs)))
    except RedisError:  # which may be a RetryableError, too
        raise
    except RetryableError as error:
        metrics.LIMITED.labels("queue").inc()
        headers = {"Retry-After": str(int(error.retry_after_seconds or 1) + 1)}
        raise ApiError(429, str(error), kind="requests", code="queue_full", headers=headers) from None
    for choice, job_id in zip(answers.choices, job_ids, strict=True):
        if job_id != choice.job_id:  # the first job of an idempotency key, which may have finished long ago
            choice.is_repeated = True
            choice.job_id, choice.watch = job_id, stack.enter_context(queue.feed.watch(job_id))
            await queue.feed.check_states()


async def _collect(job_ids: AsyncGenerator[str, None]) -> list[str]:
    return [job_id async for job_id in job_ids]


async def _all(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all; if one fails, cancel the others and raise its error."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first
