"""Many requests at once, answered in the order in which they finish: for an engine with its own scheduler."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


async def stream_results(
    batches: AsyncIterable[Sequence[Item]], work: Callable[[Item], Coroutine[Any, Any, Result]]
) -> AsyncGenerator[Sequence[Result], None]:
    """Start ``work`` on each item as it arrives; yield the results that have come since the last yield.

    Closing the generator cancels the work that still runs. The first failure does the same, and is raised.
    """
    arrivals = aiter(batches)
    arrival: asyncio.Task[Sequence[Item] | None] | None = asyncio.create_task(_next(arrivals))
    running: set[asyncio.Task[Result]] = set()
    try:
        while arrival is not None or running:
            await asyncio.wait({*running, arrival} if arrival else running, return_when=asyncio.FIRST_COMPLETED)
            finished = {task for task in running if task.done()}
            results = [task.result() for task in finished]
            running -= finished
            if arrival is not None and arrival.done():
                items = arrival.result()
                running |= {asyncio.create_task(work(item)) for item in items or ()}
                arrival = asyncio.create_task(_next(arrivals)) if items is not None else None
            if results:
                yield results
    finally:
        left: list[asyncio.Task[Any]] = [*running] if arrival is None else [*running, arrival]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _next(arrivals: Any) -> Any:
    """Return the next batch; None after the last batch."""
    return await anext(arrivals, None)


def coalesce(
    work: Callable[[Sequence[Key]], Coroutine[Any, Any, Mapping[Key, Result]]],
) -> Callable[[Key], Coroutine[Any, Any, Result]]:
    """Return ``work`` on several keys as a function of one key: keys of the same turn of the loop become one call.

    For the callers of one request: cancelling one caller cancels the call for all of them.
    """
    keys: list[Key] = []
    call: asyncio.Task[Mapping[Key, Result]] | None = None

    async def call_after_this_turn(asked: Sequence[Key]) -> Mapping[Key, Result]:
        nonlocal call
        await asyncio.sleep(0)  # more keys may come in this turn
        call = None
        return await work(tuple(asked))

    async def ask(key: Key) -> Result:
        nonlocal call, keys
        if call is None or call.done():
            keys = []
            call = asyncio.create_task(call_after_this_turn(keys))
        keys.append(key)
        return (await call)[key]

    return ask


def memoize(work: Callable[[Key], Coroutine[Any, Any, Result]]) -> Callable[[Key], Coroutine[Any, Any, Result]]:
    """Return a function that does ``work`` once for each key, and shares the result, also while the work runs.

    For the callers of one request: cancelling one caller cancels the work for all of them.
    """
    tasks: dict[Key, asyncio.Task[Result]] = {}

    async def ask(key: Key) -> Result:
        if key not in tasks:
            tasks[key] = asyncio.create_task(work(key))
        return await tasks[key]

    return ask
