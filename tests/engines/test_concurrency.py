"""Many requests at once: they are answered as they finish, none is left running, and equal requests are made once."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.engines.concurrency import coalesce, memoize, stream_results

NUM_ITEMS = 6

pytestmark = pytest.mark.timeout(30)  # code that waits for the wrong thing waits for ever


class ModelBrokeError(Exception):
    """Raised by an engine in these tests."""


class Work:
    """Works on an item until it is released; records what was begun, finished and cancelled."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.started: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.released: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.finished: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    def release(self, *items: int) -> None:
        for item in items:
            self.released[item].set()

    async def __call__(self, item: int) -> int:
        self.begun.append(item)
        self.started[item].set()
        try:
            await self.released[item].wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        self.finished[item].set()
        return item


class Arrivals:
    """Items that arrive batch by batch, and then none for a long time."""

    def __init__(self, *given: Sequence[int]) -> None:
        self._given = given
        self.is_waited_for = asyncio.Event()
        self.was_cancelled = False

    async def __aiter__(self) -> AsyncIterator[Sequence[int]]:
        for batch in self._given:
            yield batch
        self.is_waited_for.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def batches(*given: Sequence[int]) -> AsyncIterator[Sequence[int]]:
    for batch in given:
        yield batch


@given(st.permutations(range(NUM_ITEMS)), st.integers(0, NUM_ITEMS))
async def test_results_come_in_the_order_in_which_work_finishes(order: list[int], cut: int) -> None:
    """Neither the order of arrival nor the batches matter, and a batch may be empty."""
    work = Work()
    arrivals = batches(range(cut), range(cut, NUM_ITEMS))
    async with aclosing(stream_results(arrivals, work)) as results:
        for item in order:
            work.release(item)
            assert await anext(results) == [item]
        assert await anext(results, None) is None
    assert sorted(work.begun) == list(range(NUM_ITEMS))


async def test_what_finished_since_the_last_time_comes_together() -> None:
    """A reader that was busy catches up in one message."""
    work = Work()
    async with aclosing(stream_results(batches([0, 1, 2, 3]), work)) as results:
        work.release(0)
        assert await anext(results) == [0]
        work.release(1, 2)
        await asyncio.gather(work.finished[1].wait(), work.finished[2].wait())
        assert sorted(await anext(results)) == [1, 2]


async def test_a_later_batch_is_begun_while_the_first_is_still_worked_on() -> None:
    """The work on the second item releases the first: batch after batch would never end."""
    released = asyncio.Event()

    async def work(item: int) -> int:
        if item == 1:
            released.set()
        await released.wait()
        return item

    results = [item async for batch in stream_results(batches([0], [1]), work) for item in batch]
    assert sorted(results) == [0, 1]


async def test_a_batch_is_begun_before_the_next_one_arrives() -> None:
    """Scoring begins while a slow draft still writes."""
    work, arrivals = Work(), Arrivals([0])
    work.release(0)
    async with aclosing(stream_results(arrivals, work)) as results:
        assert await anext(results) == [0]


async def test_no_items_give_no_results() -> None:
    """An empty stream ends, and so does a stream of empty batches."""
    work = Work()
    assert [batch async for batch in stream_results(batches(), work)] == []
    assert [batch async for batch in stream_results(batches([], []), work)] == []


async def test_closing_cancels_what_runs_and_what_is_yet_to_arrive() -> None:
    """A caller that has gone costs no more work, and nothing is left when the closing returns."""
    work, arrivals = Work(), Arrivals([0, 1, 2])
    work.release(0)
    async with aclosing(stream_results(arrivals, work)) as results:
        assert await anext(results) == [0]
        await arrivals.is_waited_for.wait()
    assert sorted(work.cancelled) == [1, 2]
    assert arrivals.was_cancelled


async def test_cancelling_the_reader_cancels_what_runs() -> None:
    """A deadline that passes while the reader waits frees the engine as a closed stream does."""
    work, arrivals = Work(), Arrivals([0, 1])
    reader = asyncio.create_task(anext(stream_results(arrivals, work)))
    await asyncio.gather(arrivals.is_waited_for.wait(), work.started[0].wait(), work.started[1].wait())
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert sorted(work.cancelled) == [0, 1]
    assert arrivals.was_cancelled


async def test_the_first_failure_is_raised_and_cancels_the_rest() -> None:
    """A step that cannot be scored is not scored further."""
    work, arrivals = Work(), Arrivals([0, 1, 2])

    async def work_or_break(item: int) -> int:
        if item == 1:
            await arrivals.is_waited_for.wait()
            raise ModelBrokeError
        return await work(item)

    with pytest.raises(ModelBrokeError):
        await anext(stream_results(arrivals, work_or_break))
    assert sorted(work.cancelled) == [0, 2]
    assert arrivals.was_cancelled


async def test_a_stream_that_breaks_raises_its_error_and_cancels_what_runs() -> None:
    """The results of a broken stream are useless."""
    work = Work()

    async def broken() -> AsyncIterator[Sequence[int]]:
        yield [0, 1]
        await asyncio.gather(work.started[0].wait(), work.started[1].wait())
        raise ModelBrokeError

    with pytest.raises(ModelBrokeError):
        await anext(stream_results(broken(), work))
    assert sorted(work.cancelled) == [0, 1]


class Counted:
    """Work on keys that counts how often it was done, and fails for key "broken"."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def __call__(self, key: str) -> str:
        self.keys.append(key)
        await asyncio.sleep(0)  # others may ask in the meantime
        if key == "broken":
            raise ModelBrokeError
        return key.upper()


async def test_equal_keys_are_worked_on_once() -> None:
    """Drafts that are equal have one likelihood and one reward."""
    work = Counted()
    ask = memoize(work)
    assert [await ask("a"), await ask("b"), await ask("a")] == ["A", "B", "A"]
    assert work.keys == ["a", "b"]


async def test_equal_keys_that_are_asked_for_at_once_are_worked_on_once() -> None:
    """The second caller waits for the result of the first call."""
    work = Counted()
    ask = memoize(work)
    assert list(await asyncio.gather(ask("a"), ask("a"), ask("b"), ask("a"))) == ["A", "A", "B", "A"]
    assert work.keys == ["a", "b"]


async def test_a_failure_reaches_all_who_asked() -> None:
    """It reaches callers that wait for the result and callers that come later, and nobody else."""
    work = Counted()
    ask = memoize(work)
    answers = await asyncio.gather(ask("broken"), ask("a"), ask("broken"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ModelBrokeError, str, ModelBrokeError]
    with pytest.raises(ModelBrokeError):
        await ask("broken")
    assert work.keys == ["broken", "a"]


async def test_nothing_is_remembered_from_one_request_to_the_next() -> None:
    """Another prefix gives the same candidate another likelihood."""
    work = Counted()
    for ask in (memoize(work), memoize(work)):
        assert await ask("a") == "A"
    assert work.keys == ["a", "a"]


async def test_keys_that_are_asked_for_in_one_turn_become_one_call() -> None:
    """The engine gets one request instead of sixteen; a later key makes another call."""
    calls: list[Sequence[int]] = []

    async def doubled(keys: Sequence[int]) -> dict[int, int]:
        calls.append(sorted(keys))
        await asyncio.sleep(0)
        return {key: 2 * key for key in keys}

    ask = coalesce(doubled)
    assert await asyncio.gather(*(ask(key) for key in (3, 1, 3))) == [6, 2, 6]
    assert await ask(5) == 10
    assert calls == [[1, 3, 3], [5]]


async def test_those_who_ask_after_a_call_was_cancelled_are_answered() -> None:
    """A cancelled turn leaves nothing behind."""

    async def same(keys: Sequence[int]) -> dict[int, int]:
        return {key: key for key in keys}

    ask = coalesce(same)
    first = asyncio.create_task(ask(1))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await ask(2) == 2
