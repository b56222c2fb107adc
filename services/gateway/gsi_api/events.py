"""A job as server-sent events, followed by the feed of its queue: no connection to Redis for a stream."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

from gsi.errors import InvalidRequestError
from gsi.jobs.feed import Watch
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from services.gateway.documents import to_json
from services.gateway.errors import ApiError
from services.gateway.gateway import NO_ANSWER, explain
from services.gateway.gsi_api.jobs import FoundJob, Jobs


async def open_events(jobs: Jobs, found: FoundJob, after: int, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    """Follow a job until the stack is closed; return its events behind step number ``after``.

    ``state`` comes first and when the state changes, ``step`` for each step, and ``end`` with the whole job. A job that
    is deleted meanwhile, or a Redis that is away, is an ``error``.
    """
    watch = stack.enter_context(found.queue.feed.watch(found.summary.id))
    await found.queue.feed.refresh()
    await found.queue.feed.check_states()  # a job that has ended is told at once
    return _events(jobs, found, watch, after)


async def _events(jobs: Jobs, found: FoundJob, watch: Watch, after: int) -> AsyncIterator[bytes]:
    number, state = -1, found.summary.state
    yield _event("state", {"state": state})
    try:
        async with aclosing(watch.events()) as events:
            async for event in events:
                current = event if isinstance(event, JobState) else _state_at_step(state)
                if current is not state:
                    state = current
                    yield _event("state", {"state": state})
                if isinstance(event, StepRecord):
                    number += 1
                    if number > after:
                        yield _event("step", event.to_json(), number)
        yield _event("end", await jobs.show(found))
    except InvalidRequestError as error:
        yield _event("error", ApiError(404, str(error), param="id", code="job_not_found").body)
    except ApiError as error:
        yield _event("error", error.body)
    except NO_ANSWER as error:
        yield _event("error", explain(error).body)


def _state_at_step(state: JobState) -> JobState:
    """Return the state of a job whose next step is read: it runs, or did before it ended."""
    return JobState.RUNNING if state is JobState.QUEUED else state


def _event(kind: str, data: dict[str, Any] | str, number: int | None = None) -> bytes:
    written = data if isinstance(data, str) else to_json(data)
    place = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\n{place}data: {written}\n\n".encode()
