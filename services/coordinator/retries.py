"""Which failures of a service a job waits out, and for how long."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, wait_exponential_jitter

from gsi.errors import RetryableError
from services.coordinator.models import Models

T = TypeVar("T")

MAX_DEADLINES = 5  # calls in a row that a serving service did not finish in time, before the run is given up
MAX_LOSSES = 4  # the same for calls in which a service that served was lost: perhaps it is this job that ends it


class GivenUpError(Exception):
    """A call failed again and again while its service served: the job is to be tried another time."""


_backoff = wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.2)


async def patiently(
    models: Models, call: Callable[[], Awaitable[T]], waited: Callable[[float], None] = lambda _: None
) -> T:
    """Make a call; while a service is away or full, wait for it and make the call again.

    ``waited`` is told the seconds before the call that succeeded: for a slot, for a service, in calls that failed.
    Raises GivenUpError if the service serves and yet passes its deadline, or is lost, too often in a row.
    """
    asked = time.perf_counter()

    async def attempt() -> T:
        try:
            async with models.step_limit.slot():
                began = time.perf_counter()
                answer = await call()
                waited(began - asked)
                return answer
        except RetryableError as error:
            if error.retry_after_seconds is not None:
                models.step_limit.slow_down()
            raise

    async def wait_for_service(state: RetryCallState) -> None:
        error = _failure(state)
        if isinstance(error, RetryableError) and error.service and error.retry_after_seconds is None:
            await models.wait_until_serving(error.service)  # after a deadline, too: perhaps nothing gets through

    retrying = AsyncRetrying(
        retry=lambda state: isinstance(_failure(state), RetryableError),
        stop=_is_hopeless,
        wait=_delay,
        before_sleep=wait_for_service,
        retry_error_callback=_give_up,
    )
    return await retrying(attempt)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _delay(state: RetryCallState) -> float:
    error = _failure(state)
    named = error.retry_after_seconds if isinstance(error, RetryableError) else None
    return max(named or 0.0, _backoff(state))


def _is_hopeless(state: RetryCallState) -> bool:
    """Count failures of one kind in a row, on tenacity's own object for this call; another kind starts anew."""
    error, counts = _failure(state), state.retry_object.statistics
    if isinstance(error, RetryableError) and not error.has_reached:
        return False  # the service was not there: this call can have done it no harm
    kinds = {
        "num_deadlines": isinstance(error, RetryableError) and error.is_deadline,
        "num_losses": isinstance(error, RetryableError) and error.is_away,
    }
    for name, is_of_kind in kinds.items():
        counts[name] = counts.get(name, 0) + 1 if is_of_kind else 0
    return bool(counts["num_deadlines"] >= MAX_DEADLINES or counts["num_losses"] >= MAX_LOSSES)


def _give_up(state: RetryCallState) -> None:
    error = _failure(state)
    if isinstance(error, RetryableError) and error.is_away:
        raise GivenUpError(f"a service was lost {MAX_LOSSES} times during one step ({error})") from error
    raise GivenUpError(
        f"params.n, params.max_step_tokens: a step did not finish in time {MAX_DEADLINES} times ({error}); "
        "allowed: what the services can do within their deadlines"
    ) from error
