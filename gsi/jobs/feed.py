"""Many jobs of one queue, followed over one connection: their steps as they are kept, and their ends.

``JobReader.follow`` holds a connection for each job, and learns of a job's end up to half a second late. A gateway
follows thousands. One XREAD waits on the steps of all watched jobs and on the results stream, which announces each end.
A new watch wakes it by a write to a stream of its own, ``wake``.

A results entry may be trimmed or lost with a failing server, so the states of all watched jobs are also read every few
seconds, in one round trip.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from redis.asyncio import Redis

from gsi.errors import InvalidRequestError
from gsi.jobs.connection import LOST_CONNECTION, RedisError
from gsi.jobs.keys import Keys
from gsi.jobs.reader import read_step
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord

log = structlog.get_logger()

BLOCK_MS = 1000
CHECK_SECONDS = 2.0  # between two readings of the states
WAKE_LIFETIME_MS = 60_000
RETRY_SECONDS = 0.5  # after a lost connection
_GONE = object()


class Watch:
    """A job that is followed. Iterating it once yields its steps, from the first, until the job has finished."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.last = b"0"  # the last entry of its steps that was read
        self.was_seen = False
        self._state: JobState | None = None
        self._events: asyncio.Queue[Any] = asyncio.Queue()

    async def steps(self) -> AsyncGenerator[StepRecord, None]:
        """Yield each step as soon as it is kept.

        Raises InvalidRequestError if the job's record is deleted, and NewerReleaseError for a step that this release
        cannot read.
        """
        async for event in self.events():
            if isinstance(event, StepRecord):
                yield event

    async def events(self) -> AsyncGenerator[StepRecord | JobState, None]:
        """Yield the steps as ``steps`` does, and within seconds each state before the last that the job moves to."""
        while (event := await self._events.get()) is not None:
            if event is _GONE:
                raise InvalidRequestError(f"id: job {self.job_id} was deleted, or its lifetime has ended")
            yield event if isinstance(event, JobState) else read_step(event)

    def add_step(self, entry_id: bytes, step: bytes) -> None:
        self.last = entry_id
        self._events.put_nowait(step)

    def notice(self, state: JobState) -> None:
        """Note the state that the job is in."""
        if state is not self._state:
            self._state = state
            self._events.put_nowait(state)

    def end(self) -> None:
        self._events.put_nowait(None)

    def lose(self) -> None:
        self._events.put_nowait(_GONE)


class JobFeed:
    """Follows the jobs of one queue. Nothing is read unless ``run`` runs."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._wake = keys.wake(secrets.token_hex(6))
        self._watches: dict[str, set[Watch]] = {}
        self._is_reading = False
        self._is_woken = False
        self._last_result = b""  # not known yet
        self._last_wake = b"0"
        self.connected = asyncio.Event()  # set while Redis answers

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """Follow a job, which may not have been submitted yet, while this block runs."""
        watch = Watch(job_id)
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            others = self._watches[job_id]
            others.discard(watch)
            if not others:
                del self._watches[job_id]

    async def refresh(self) -> None:
        """Read the steps of the watches that were made meanwhile, too. Call it once a watched job is submitted."""
        if self._is_reading and not self._is_woken:
            self._is_woken = True
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.xadd(self._wake, {"wake": ""}, maxlen=1, approximate=False)
                pipeline.pexpire(self._wake, WAKE_LIFETIME_MS)
                await pipeline.execute()

    async def run(self) -> None:
        """Read until cancelled. While Redis is away, wait for it."""
        next_check = 0.0
        while True:
            try:
                if not self.connected.is_set():
                    self._last_result = self._last_result or await self._newest_result()
                    await self._redis.ping()
                    self.connected.set()
                if time.monotonic() >= next_check:
                    await self.check_states()
                    next_check = time.monotonic() + CHECK_SECONDS
                await self._read_once()
            except RedisError as error:
                if self.connected.is_set() or not isinstance(error, LOST_CONNECTION):
                    log.warning("the feed of jobs cannot read; trying again", reason=str(error))
                self.connected.clear()
                await asyncio.sleep(RETRY_SECONDS)

    async def check_states(self) -> None:
        """End the watches of jobs that have finished, and lose those of jobs that were deleted."""
        job_ids = list(self._watches)
        for job_id, state in zip(job_ids, await self.states(job_ids), strict=True):
            for watch in list(self._watches.get(job_id, ())):
                if state is None and watch.was_seen:
                    watch.lose()
                elif state is not None and state.is_finished:
                    await self._read_rest(watch)
                elif state is not None:
                    watch.notice(state)
                watch.was_seen = watch.was_seen or state is not None

    async def states(self, job_ids: Sequence[str]) -> list[JobState | None]:
        """Return the state of each job in one round trip; None for a job without a record."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hget(self._keys.record(job_id), "state")
            found = await pipeline.execute() if job_ids else []
        return [None if state is None else JobState(state.decode()) for state in found]

    async def _read_rest(self, watch: Watch) -> None:
        """Read the last steps of a job that has finished, and end its watch."""
        entries = await self._redis.xrange(self._keys.steps(watch.job_id), min=b"(" + _full(watch.last))
        _hand_out(entries, [watch])  # without those that another read has handed out meanwhile
        watch.end()

    async def _newest_result(self) -> bytes:
        newest = await self._redis.xrevrange(self._keys.results, count=1)
        found: bytes = newest[0][0] if newest else b"0"
        return found

    async def _read_once(self) -> None:
        """Wait for steps and ends, and hand them to their watches."""
        places: dict[str, bytes] = {self._keys.results: self._last_result, self._wake: self._last_wake}
        readers: dict[bytes, list[Watch]] = {}
        for job_id, watches in self._watches.items():
            key = self._keys.steps(job_id)
            places[key] = min((watch.last for watch in watches), key=_order)
            readers[key.encode()] = list(watches)
        self._is_reading, self._is_woken = True, False
        try:
            answer = await self._redis.xread(places, block=BLOCK_MS)
        finally:
            self._is_reading = False
        ended = []
        for key, entries in answer:
            if key == self._keys.results.encode():
                self._last_result = entries[-1][0]
                ended = [fields[b"id"].decode() for _, fields in entries]
            elif key == self._wake.encode():
                self._last_wake = entries[-1][0]
            else:
                _hand_out(entries, readers[key])
        for job_id in ended:  # after the steps: none follows the end
            was_read = readers.get(self._keys.steps(job_id).encode(), [])
            for watch in list(self._watches.get(job_id, ())):
                if watch in was_read:
                    watch.end()
                else:  # made while this read waited
                    await self._read_rest(watch)


def _hand_out(entries: list[tuple[bytes, dict[bytes, bytes]]], watches: list[Watch]) -> None:
    for entry_id, fields in entries:
        for watch in watches:
            if _order(watch.last) < _order(entry_id):
                watch.add_step(entry_id, fields[b"step"])


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number or 0)


def _full(entry_id: bytes) -> bytes:
    return entry_id if b"-" in entry_id else entry_id + b"-0"
