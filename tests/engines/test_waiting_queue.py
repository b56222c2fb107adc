"""When a full engine wants a refused request again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.engines.on_vllm.waiting_queue import MAX_RETRY_SECONDS, MIN_RETRY_SECONDS, WINDOW_SECONDS, WaitingQueue

START = 1000.0  # a monotonic clock begins anywhere


class Clock:
    """Stands for the module ``time``, and shows the time that the test sets."""

    def __init__(self) -> None:
        self.now = START

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gsi.engines.on_vllm.waiting_queue.time", clock)
    return clock


def test_the_time_to_come_back_is_that_in_which_those_who_wait_are_begun(clock: Clock) -> None:
    """10 requests finished in 2 seconds, so the 30 requests that wait now take 6."""
    queue = WaitingQueue()
    queue.record(num_waiting=99, num_finished=6)
    clock.now += 2
    queue.record(num_waiting=30, num_finished=4)
    assert queue.retry_after_seconds() == pytest.approx(6)


def test_an_engine_that_falls_silent_is_given_more_time(clock: Clock) -> None:
    """The rate is taken until now, not until the last request finished."""
    queue = WaitingQueue()
    queue.record(num_waiting=20, num_finished=20)
    clock.now += 1
    assert queue.retry_after_seconds() == pytest.approx(1)
    clock.now += 3
    assert queue.retry_after_seconds() == pytest.approx(4)


def test_one_engine_step_is_enough_to_tell_a_rate(clock: Clock) -> None:
    """The clock has not moved since, so the step is assumed to have taken a tenth of a second."""
    queue = WaitingQueue()
    queue.record(num_waiting=60, num_finished=3)
    assert queue.retry_after_seconds() == pytest.approx(2)


def test_only_the_last_seconds_count(clock: Clock) -> None:
    """A rush of short requests says nothing about the long ones that run now."""
    queue = WaitingQueue()
    queue.record(num_waiting=0, num_finished=1000)
    clock.now += WINDOW_SECONDS + 1
    queue.record(num_waiting=0, num_finished=3)
    clock.now += 1
    queue.record(num_waiting=9, num_finished=0)
    assert queue.retry_after_seconds() == pytest.approx(3)


def test_an_engine_that_finishes_nothing_is_given_the_longest_time(clock: Clock) -> None:
    """This holds before its first request has finished, and after a window without a finished request."""
    queue = WaitingQueue()
    queue.record(num_waiting=1, num_finished=0)
    assert queue.retry_after_seconds() == MAX_RETRY_SECONDS
    queue.record(num_waiting=1, num_finished=100)
    assert queue.retry_after_seconds() < MAX_RETRY_SECONDS
    clock.now += WINDOW_SECONDS + 0.1
    queue.record(num_waiting=1, num_finished=0)
    assert queue.retry_after_seconds() == MAX_RETRY_SECONDS


@pytest.mark.parametrize(("num_waiting", "expected"), [(0, MIN_RETRY_SECONDS), (10**6, MAX_RETRY_SECONDS)])
def test_nobody_is_sent_away_for_no_time_or_for_hours(clock: Clock, num_waiting: int, expected: float) -> None:
    """Coming back at once would be a busy loop, and after hours the rate would be another one."""
    queue = WaitingQueue()
    queue.record(num_waiting, num_finished=5)
    clock.now += 1
    assert queue.retry_after_seconds() == expected


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 10**6), st.integers(0, 100))), st.floats(0, 1e6))
def test_the_time_to_come_back_keeps_within_its_bounds(steps: list[tuple[float, int, int]], silence: float) -> None:
    """The bounds hold for all statistics, and however long the engine reports none."""
    queue, clock = WaitingQueue(), Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsi.engines.on_vllm.waiting_queue.time", clock)
        for seconds, num_waiting, num_finished in steps:
            clock.now += seconds
            queue.record(num_waiting, num_finished)
        clock.now += silence
        assert MIN_RETRY_SECONDS <= queue.retry_after_seconds() <= MAX_RETRY_SECONDS
