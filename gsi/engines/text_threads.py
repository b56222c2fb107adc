"""Threads that tokenise, because the event loop must answer meanwhile: a long text takes seconds."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from gsi.algorithm.candidates import Message
from gsi.limits import SMALL_TEXT_CHARACTERS

P = ParamSpec("P")
T = TypeVar("T")


def count_characters(messages: Sequence[Message], steps: Sequence[str] = ()) -> int:
    """Return how many characters a conversation and the steps of its answer have."""
    return sum(len(message.content) for message in messages) + sum(map(len, steps))


class TextThreads:
    """Two threads, one for long texts, so that short ones do not wait for them. Each works in order of arrival.

    Work whose caller has gone is dropped if it has not begun; work that has begun goes on to its end, which the limit
    on a request's text bounds.
    """

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(1, thread_name_prefix="short texts")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="long texts")

    async def run(self, num_characters: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work``, which reads texts of so many characters, on a thread; return its result."""
        thread = self._short if num_characters <= SMALL_TEXT_CHARACTERS else self._long
        return await asyncio.get_running_loop().run_in_executor(thread, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """End the threads, without waiting for work in flight."""
        for thread in (self._short, self._long):
            thread.shutdown(wait=False, cancel_futures=True)
