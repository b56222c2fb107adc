"""Which failures of a service a job waits out, and for how long."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, wait_exponential_jitter

from gsi.errors import InvalidRequestError, RetryableError
from services.coordinator.models import Models

T = TypeVar("T")

MAX_DEADLINES = 5  # calls in a row that a serving service did not finish in time, before the job is failed

_backoff = wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.2)


async def patiently(models: Models, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call; while a service is away or full, wait for it and make the call again.

    Raises InvalidRequestError if the service serves and yet passes its deadline too often: the job asks too much.
    """

    async def attempt() -> T:
        return await call()  # tenacity awaits coroutine functions only, and ``call`` may be a lambda

    async def wait_for_service(state: RetryCallState) -> None:
        error = _failure(state)
        if isinstance(error, RetryableError) and error.is_away:
            await models.wait_until_serving(error.service)

    retrying = AsyncRetrying(
        retry=lambda state: isinstance(_failure(state), RetryableError),
        stop=_has_passed_deadlines,
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


def _has_passed_deadlines(state: RetryCallState) -> bool:
    """Count deadlines in a row, on tenacity's own object for this call; another failure starts the count anew."""
    error, counts = _failure(state), state.retry_object.statistics
    is_deadline = isinstance(error, RetryableError) and error.is_deadline
    counts["num_deadlines"] = counts.get("num_deadlines", 0) + 1 if is_deadline else 0
    return bool(counts["num_deadlines"] >= MAX_DEADLINES)


def _give_up(state: RetryCallState) -> None:
    error = _failure(state)
    raise InvalidRequestError(
        f"params.n, params.max_step_tokens: a step did not finish in time {MAX_DEADLINES} times ({error}); "
        "allowed: what the services can do within their deadlines"
    ) from error
