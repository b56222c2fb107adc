"""Which failures of a service a job waits out, and which end it."""

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gsi.errors import InvalidRequestError, RetryableError
from services.coordinator.retries import MAX_DEADLINES, MAX_LOSSES, GivenUpError, call_with_retries
from services.coordinator.step_limit import StepLimit

AWAY = RetryableError("target: UNAVAILABLE", service="target")
SLOW = RetryableError("target: DEADLINE_EXCEEDED", service="target", is_deadline=True)
FULL = RetryableError("target: RESOURCE_EXHAUSTED", service="target", retry_after_seconds=0.3)


class WaitedFor:
    """Stands for the coordinator's view of its services; records the roles that a call waited for."""

    def __init__(self) -> None:
        self.roles: list[str] = []
        self.step_limit = StepLimit(4)

    async def wait_until_serving(self, role: str) -> None:
        self.roles.append(role)


def failing(*failures: Exception) -> Callable[[], Awaitable[str]]:
    """Return a call that fails with each in turn and then succeeds."""
    remaining = list(failures)

    async def call() -> str:
        if remaining:
            raise remaining.pop(0)
        return "done"

    return call


async def tried(*failures: Exception) -> tuple[str, list[str]]:
    models: Any = WaitedFor()
    return await call_with_retries(models, failing(*failures)), models.roles


async def test_a_service_that_is_away_is_waited_for() -> None:
    """Each failure waits for the service by name, and then the call is made again."""
    assert await tried(AWAY, AWAY) == ("done", ["target", "target"])


async def test_a_full_service_is_given_the_time_that_it_asks_for() -> None:
    """The service serves, so the call waits only as long as RetryInfo says."""
    started = time.monotonic()
    assert await tried(FULL) == ("done", [])
    assert time.monotonic() - started >= 0.3


async def test_a_run_that_is_always_too_slow_is_given_up_with_what_it_could_ask_less_of() -> None:
    """Otherwise the run would hold its slot for ever."""
    with pytest.raises(GivenUpError, match=r"params\.n, params\.max_step_tokens: a step did not finish in time"):
        await tried(*[SLOW] * MAX_DEADLINES)


async def test_deadlines_count_in_a_row() -> None:
    """A loss in between starts the count again: the service was slow for another reason."""
    failures = [SLOW] * (MAX_DEADLINES - 1) + [AWAY] + [SLOW]
    assert (await tried(*failures))[0] == "done"


async def test_a_run_during_which_its_service_is_lost_again_and_again_is_given_up() -> None:
    """The service serves each time, so perhaps this job ends it. The message has the last error."""
    with pytest.raises(GivenUpError, match=rf"a service was lost {MAX_LOSSES} times .*target: UNAVAILABLE"):
        await tried(*[AWAY] * MAX_LOSSES)


async def test_losses_count_in_a_row() -> None:
    """The job waits for the service after each loss; a failure of another kind starts the count again."""
    failures = [AWAY] * (MAX_LOSSES - 1) + [FULL] + [AWAY]
    assert await tried(*failures) == ("done", ["target"] * MAX_LOSSES)


async def test_a_full_service_is_never_given_up() -> None:
    """It will have room again, and another job would fail in the same way."""
    full = RetryableError("target: RESOURCE_EXHAUSTED", service="target", retry_after_seconds=0.001)
    assert (await tried(*[full] * (MAX_LOSSES + 1)))[0] == "done"


async def test_a_failure_that_would_only_repeat_is_not_waited_out() -> None:
    """The caller gets the error of its mistake at once and unchanged."""
    mistake = InvalidRequestError("n is 0; allowed: 1 to 9")
    with pytest.raises(InvalidRequestError, match="n is 0"):
        await tried(mistake)


async def test_a_full_service_slows_down_the_steps() -> None:
    """Fewer steps call the service at once; this call is still made."""
    models: Any = WaitedFor()
    assert await call_with_retries(models, failing(FULL)) == "done"
    assert models.step_limit.limit < 4


async def test_a_service_that_was_never_reached_is_not_held_against_the_job() -> None:
    """The job waits as often as needed: its calls never arrived, so another job may have ended the service."""
    refused = RetryableError("target: UNAVAILABLE: failed to connect", service="target", has_reached=False)
    models: Any = WaitedFor()
    assert await call_with_retries(models, failing(*[refused] * (MAX_LOSSES + 2))) == "done"
    assert models.roles == ["target"] * (MAX_LOSSES + 2)


async def test_after_a_deadline_the_service_is_asked_whether_it_serves() -> None:
    """If no call gets through, the job waits instead of missing one deadline after the other."""
    assert await tried(SLOW, SLOW) == ("done", ["target", "target"])


class Candidates:
    """What a step has got when a part of it fails."""


async def test_a_job_that_waits_for_its_next_try_holds_nothing_of_the_last_one() -> None:
    """Not until the garbage collector comes: a thousand jobs may wait."""
    held: list[weakref.ref[Candidates]] = []
    is_free: list[bool] = []

    async def fail(candidates: Candidates) -> str:
        raise RetryableError("target: RESOURCE_EXHAUSTED", service="target")

    async def step() -> str:
        if is_free:
            return "done"
        candidates = Candidates()
        held.append(weakref.ref(candidates))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(candidates))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return "never"

    class Looking(WaitedFor):
        async def wait_until_serving(self, role: str) -> None:
            is_free.append(held[0]() is None)

    models: Any = Looking()
    gc.disable()
    try:
        assert await call_with_retries(models, step) == "done"
    finally:
        gc.enable()
    assert is_free == [True]
