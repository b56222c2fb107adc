"""The thread of a model: it runs the work of all requests, and a forward pass reads what all of them wait for."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

from gsi.engines.on_transformers.metrics import PASS_PARTS
from gsi.engines.on_transformers.passes import Part, Passes
from gsi.engines.on_transformers.sampling import draw_all

T = TypeVar("T")
Work = Generator[Part, None, T]  # yields what it wants read, goes on when that is read, and returns its result

PASS_TOKENS = 2048  # of a pass with several parts: the memory of a pass, and how long a short request waits for others


@dataclass(slots=True, eq=False)
class _Request:
    """Work in progress, and the future of who waits for its result."""

    work: Work[Any]
    future: "asyncio.Future[Any]"
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class _End:
    """How a request ended."""

    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class ModelThread:
    """Runs work in passes. Requests take turns pass by pass, so a long request does not hold up a short one.

    ``batches``: a pass reads what all requests wait for, up to ``PASS_TOKENS``. Otherwise a pass reads what one request
    waits for. A request that was cancelled costs no more than the pass in flight.
    """

    def __init__(self, passes: Passes, *, batches: bool, num_threads: int | None) -> None:
        self._passes = passes
        self._batches = batches
        self._arrivals: SimpleQueue[_Request | None] = SimpleQueue()  # None: close
        self._waiting: deque[_Request] = deque()
        self._is_closed = False
        self.num_requests = 0  # that are unfinished; for the model's thread
        self._thread = threading.Thread(target=self._serve, args=(num_threads,), name="model", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """Run ``work`` to its end; return its result. Raises RuntimeError if the thread was closed."""
        if self._is_closed:
            raise RuntimeError("the model was closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._arrivals.put(_Request(work, future))
        return await future

    def close(self) -> None:
        """End the thread after the pass in flight. Unfinished requests are cancelled."""
        self._is_closed = True
        self._arrivals.put(None)
        self._thread.join()

    @torch.inference_mode()
    def _serve(self, num_threads: int | None) -> None:
        if num_threads:
            torch.set_num_threads(num_threads)  # OpenMP has a number per thread
        while (arrived := self._take_arrivals()) is not None:
            self.num_requests = len(arrived) + len(self._waiting)
            ends = self._advance(arrived)
            if turn := self._take_turn():
                parts = [request.part for request in turn if request.part is not None]
                PASS_PARTS.observe(len(parts))
                self._passes.run(parts)
                draw_all(parts)
                ends += self._advance(turn)
            _tell(ends)
        _tell([_End(request.future, error=asyncio.CancelledError()) for request in self._waiting])

    def _take_arrivals(self) -> list[_Request] | None:
        """Return the new requests, waiting for one if there is no other work; None when the thread is to end."""
        arrived: list[_Request] = []
        with contextlib.suppress(Empty):
            while True:
                request = self._arrivals.get(block=not (self._waiting or arrived))
                if request is None:
                    self._waiting.extend(arrived)
                    return None
                arrived.append(request)
        return arrived

    def _take_turn(self) -> list[_Request]:
        """Take the requests of the next pass: the first, and those behind it as far as they fit."""
        turn: list[_Request] = []
        num_tokens = 0
        while self._waiting:
            request = self._waiting[0]
            if request.future.cancelled():
                self._waiting.popleft().work.close()
                continue
            num_tokens += request.part.num_tokens if request.part else 0
            if turn and (not self._batches or num_tokens > PASS_TOKENS):
                break
            turn.append(self._waiting.popleft())
        return turn

    def _advance(self, requests: Sequence[_Request]) -> list[_End]:
        """Let work go on to the next part that it wants read; return the ends of what has ended."""
        ends = []
        for request in requests:
            try:
                request.part = _go_on(request)
                self._waiting.append(request)
            except StopIteration as end:
                ends.append(_End(request.future, result=end.value))
            except BaseException as error:  # noqa: BLE001 - it is one request's, who gets it; the thread goes on
                ends.append(_End(request.future, error=error))
        return ends


def _go_on(request: _Request) -> Part:
    if request.part is not None and request.part.error is not None:
        return request.work.throw(request.part.error)
    return next(request.work)


def _tell(ends: Sequence[_End]) -> None:
    """Wake those who wait: once for all of an event loop, since a wake-up takes longer than a small model's pass."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_End]] = {}
    for end in ends:
        by_loop.setdefault(end.future.get_loop(), []).append(end)
    for loop, told in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle, told)


def _settle(ends: Sequence[_End]) -> None:
    for end in ends:
        if end.future.done():  # cancelled meanwhile
            continue
        if isinstance(end.error, asyncio.CancelledError):
            end.future.cancel()
        elif end.error is not None:
            end.future.set_exception(end.error)
        else:
            end.future.set_result(end.result)
