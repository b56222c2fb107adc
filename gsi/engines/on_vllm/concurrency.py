"""Many requests at once, answered in the order in which they finish: for engines that schedule by themselves."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


async def as_finished(
    batches: AsyncIterable[Sequence[Item]], work: Callable[[Item], Coroutine[Any, Any, Result]]
) -> AsyncGenerator[Sequence[Result], None]:
    """Start ``work`` on each item as it arrives; yield the results that are there since the last time.

    Closing the generator cancels what still runs; so does the first failure, which is raised.
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
    """Return the next batch, None behind the last."""
    return await anext(arrivals, None)


def together(
    work: Callable[[Sequence[Key]], Coroutine[Any, Any, Mapping[Key, Result]]],
) -> Callable[[Key], Coroutine[Any, Any, Result]]:
    """Return ``work`` on several keys as a function of one: keys that are asked for in one turn become one call.

    Whoever asks belongs to one request: cancelling one cancels the call for all.
    """
    keys: list[Key] = []
    call: asyncio.Task[Mapping[Key, Result]] | None = None

    async def after_this_turn(asked: Sequence[Key]) -> Mapping[Key, Result]:
        nonlocal call
        await asyncio.sleep(0)  # others may be about to ask
        call = None
        return await work(tuple(asked))

    async def ask(key: Key) -> Result:
        nonlocal call, keys
        if call is None or call.done():
            keys = []
            call = asyncio.create_task(after_this_turn(keys))
        keys.append(key)
        return (await call)[key]

    return ask


def once_each(work: Callable[[Key], Coroutine[Any, Any, Result]]) -> Callable[[Key], Coroutine[Any, Any, Result]]:
    """Return ``work`` as a function that does it once for equal keys, for as long as the function lives.

    Whoever asks belongs to one request: cancelling one cancels the work for all.
    """
    tasks: dict[Key, asyncio.Task[Result]] = {}

    async def ask(key: Key) -> Result:
        if key not in tasks:
            tasks[key] = asyncio.create_task(work(key))
        return await tasks[key]

    return ask
