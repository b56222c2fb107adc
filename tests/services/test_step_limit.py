"""How many steps run at once: fewer when a service is full, more again as steps succeed, and no step is dropped."""

import asyncio

import pytest

from gsi.errors import RetryableError
from services.coordinator.step_limit import COOL_DOWN_SECONDS, StepLimit


async def most_at_once(step_limit: StepLimit, num_steps: int) -> int:
    """Run steps side by side; return the largest number that ran at once."""
    at_work, most = 0, 0

    async def step() -> None:
        nonlocal at_work, most
        async with step_limit.slot():
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0.001)
            at_work -= 1

    await asyncio.gather(*(step() for _ in range(num_steps)))
    return most


async def test_no_more_steps_run_than_there_are_slots() -> None:
    """All of them run in the end."""
    assert await most_at_once(StepLimit(5), 40) == 5


async def test_a_full_service_halves_the_steps_and_success_brings_them_back() -> None:
    """Additive increase, multiplicative decrease."""
    step_limit = StepLimit(16)
    step_limit.slow_down()
    assert step_limit.limit == 8
    assert await most_at_once(step_limit, 8) <= 9
    await most_at_once(step_limit, 400)
    assert step_limit.limit == 16


async def test_refusals_that_come_together_count_once() -> None:
    """Sixteen steps that a full service refused in one moment do not bring the limit to one."""
    step_limit = StepLimit(16)
    for _ in range(10):
        step_limit.slow_down()
    assert step_limit.limit == 8
    await asyncio.sleep(COOL_DOWN_SECONDS)
    step_limit.slow_down()
    assert step_limit.limit == 4


async def test_one_step_always_runs() -> None:
    """However full a service is, one step asks it again."""
    step_limit = StepLimit(1)
    step_limit.slow_down()
    assert step_limit.limit == 1
    assert await most_at_once(step_limit, 3) == 1


async def test_a_step_that_fails_or_is_cancelled_gives_its_slot_back() -> None:
    """A failure does not raise the limit."""
    step_limit = StepLimit(2)
    step_limit.slow_down()

    async def failing() -> None:
        async with step_limit.slot():
            raise RetryableError("target: RESOURCE_EXHAUSTED", retry_after_seconds=0.1)

    async def waiting() -> None:
        async with step_limit.slot():
            await asyncio.Event().wait()

    with pytest.raises(RetryableError):
        await failing()
    assert step_limit.limit == 1
    holder, queued = asyncio.create_task(waiting()), asyncio.create_task(waiting())
    await asyncio.sleep(0)
    for task in (queued, holder):
        task.cancel()
    await asyncio.gather(holder, queued, return_exceptions=True)
    async with asyncio.timeout(1):
        assert await most_at_once(step_limit, 1) == 1
