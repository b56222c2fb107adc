"""Which failures of a service a job waits out, and for how long."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gsi.errors import RetryableError, release
from services.coordinator.models import Models

T = TypeVar("T")

MAX_DEADLINES = 5  # calls in a row that a serving service did not finish in time, before the run is given up
MAX_LOSSES = 4  # calls in a row during which a serving service was lost: perhaps this job is what ends the service
FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 5.0
JITTER_SECONDS = 0.2
MAX_DOUBLINGS = 10  # far beyond the longest wait; without a limit, a power of two would overflow in the end


class GivenUpError(Exception):
    """A call failed again and again while its service served: the job is to be tried another time."""


async def call_with_retries(
    models: Models, call: Callable[[], Awaitable[T]], note_wait: Callable[[float], None] = lambda _: None
) -> T:
    """Make a call; while its service is unavailable or full, wait and make the call again.

    ``note_wait`` gets the seconds before the call that succeeded: for a slot, for a service, in calls that failed.
    Raises GivenUpError if the service serves and yet misses its deadline, or is lost, too often in a row.
    """
    asked = time.perf_counter()
    num_failures = num_deadlines = num_losses = 0  # the last two in a row
    while True:
        try:
            async with models.step_limit.slot():
                began = time.perf_counter()
                answer = await call()
                note_wait(began - asked)
                return answer
        except RetryableError as error:
            release(error)  # a job may wait for long
            if error.has_reached:  # a call that never reached its service can have done the service no harm
                num_deadlines = num_deadlines + 1 if error.is_deadline else 0
                num_losses = num_losses + 1 if error.is_away else 0
            _check_hope(error, num_deadlines, num_losses)
            await _wait(models, error, num_failures)
            num_failures += 1


def _check_hope(error: RetryableError, num_deadlines: int, num_losses: int) -> None:
    """Raise GivenUpError if the call has failed too often in a row."""
    if num_losses >= MAX_LOSSES:
        raise GivenUpError(f"a service was lost {MAX_LOSSES} times during one step ({error})") from error
    if num_deadlines >= MAX_DEADLINES:
        raise GivenUpError(
            f"params.n, params.max_step_tokens: a step did not finish in time {MAX_DEADLINES} times ({error}); "
            "allowed: what the services can do within their deadlines"
        ) from error


async def _wait(models: Models, error: RetryableError, num_failures: int) -> None:
    """Wait for a full service as long as it asks for, for another until it serves; then for a random while."""
    if error.retry_after_seconds is not None:
        models.step_limit.slow_down()
    elif error.service:
        await models.wait_until_serving(error.service)  # after a deadline as well: perhaps nothing gets through
    backoff = FIRST_WAIT_SECONDS * 2 ** min(num_failures, MAX_DOUBLINGS) + random.uniform(0, JITTER_SECONDS)
    await asyncio.sleep(max(error.retry_after_seconds or 0.0, min(backoff, MAX_WAIT_SECONDS)))
