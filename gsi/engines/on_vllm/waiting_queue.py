"""vLLM's queue of waiting requests: its length, and when a refused request should come back."""

import time
from collections import deque

WINDOW_SECONDS = 10.0  # the rate of finished requests is that of the last seconds
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.1, 10.0


class WaitingQueue:
    """The state of the queue by the engine's statistics, which arrive once per engine step."""

    def __init__(self) -> None:
        self.num_waiting = 0  # requests that the engine has taken and not begun
        self._finished: deque[tuple[float, int]] = deque()  # (monotonic time, requests finished) of each engine step

    def record(self, num_waiting: int, num_finished: int) -> None:
        """Take the statistics of an engine step."""
        self.num_waiting = num_waiting
        now = time.monotonic()
        self._finished.append((now, num_finished))
        while self._finished and self._finished[0][0] < now - WINDOW_SECONDS:
            self._finished.popleft()

    def retry_after_seconds(self) -> float:
        """Return how long the engine needs to begin the requests that wait now, at the rate of the last seconds."""
        num_finished = sum(count for _, count in self._finished)
        if not num_finished:
            return MAX_RETRY_SECONDS
        seconds = max(time.monotonic() - self._finished[0][0], 0.1)
        return min(max(self.num_waiting * seconds / num_finished, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
