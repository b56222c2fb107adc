"""Many jobs at once: take no more than there are free slots, run each, take over what others left."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from gsi.jobs.connection import RedisError
from gsi.jobs.reader import JobReader
from gsi.jobs.stream import Delivery, JobStream
from gsi.jobs.writer import JobWriter, LeaseLostError
from services.coordinator import metrics
from services.coordinator.leases import LeaseKeeper
from services.coordinator.runner import JobRunner

log = structlog.get_logger()

BLOCK_SECONDS = 0.5  # how late a stop is noticed
REDIS_AWAY_SECONDS = 1.0
OBSERVE_SECONDS = 2.0
PROMOTE_SECONDS = 0.5


class Worker:
    """Reads one queue until it is told to stop. A job in flight then is handed back, to go on elsewhere."""

    def __init__(
        self,
        stream: JobStream,
        writer: JobWriter,
        reader: JobReader,
        runner: JobRunner,
        leases: LeaseKeeper,
        max_jobs: int,
        lease_seconds: float,
    ) -> None:
        self._stream = stream
        self._writer = writer
        self._reader = reader
        self._runner = runner
        self._leases = leases
        self._max_jobs = max_jobs
        self._lease_seconds = lease_seconds
        self._runs: set[asyncio.Task[None]] = set()
        self._take_over_at = 0.0  # monotonic time of the next look for abandoned jobs
        self._is_redis_away = False  # to who takes jobs; with all slots in use nobody asks
        self._is_redis_silent = False  # to who observes the queue, which is no writing

    async def run(self, stop: asyncio.Event) -> None:
        """Run jobs until ``stop`` is set."""
        background = [asyncio.create_task(self._leases.keep()), asyncio.create_task(self._promote())]
        background.append(asyncio.create_task(self.observe()))
        try:
            while not stop.is_set():
                for delivery in await self._deliveries():
                    self._start(delivery)
        finally:
            await cancelled([*self._runs, *background])

    async def _deliveries(self) -> Sequence[Delivery]:
        """Return jobs for the free slots; none if nothing came within half a second."""
        num_free = self._max_jobs - len(self._runs)
        if num_free == 0:
            await asyncio.wait(self._runs, timeout=BLOCK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return []
        try:
            found = await self._abandoned(num_free) or await self._stream.take_new(num_free, int(BLOCK_SECONDS * 1000))
        except RedisError as error:  # away, or there and unable: its disk or its memory is full
            await self._wait_for_redis(error)
            return []
        if self._is_redis_away:
            log.info("redis is back")
            self._is_redis_away = False
            self._show_redis()
        return found

    async def _abandoned(self, num_free: int) -> Sequence[Delivery]:
        """Take over jobs whose coordinator is gone; look again at once while there are more than free slots."""
        if time.monotonic() < self._take_over_at:
            return []
        found = await self._stream.take_over(num_free, int(self._lease_seconds * 1000))
        if len(found) < num_free:
            self._take_over_at = time.monotonic() + self._lease_seconds / 4
        for delivery in found:
            log.info("job taken over", entry=delivery.entry_id)
        metrics.REDELIVERIES.inc(len(found))
        return found

    async def _wait_for_redis(self, error: Exception) -> None:
        if not self._is_redis_away:
            log.warning("redis is away or refuses to work; jobs wait for it", reason=str(error))
            self._is_redis_away = True
            self._show_redis()
        await asyncio.sleep(REDIS_AWAY_SECONDS)

    def _start(self, delivery: Delivery) -> None:
        run = asyncio.create_task(self._run(delivery))
        self._runs.add(run)
        metrics.JOBS_IN_FLIGHT.set(len(self._runs))
        run.add_done_callback(self._forget)

    def _forget(self, run: asyncio.Task[None]) -> None:
        self._runs.discard(run)
        metrics.JOBS_IN_FLIGHT.set(len(self._runs))

    async def _run(self, delivery: Delivery) -> None:
        """The edge of one run: what is not written here is delivered again when its lease has ended."""
        try:
            await self._runner.run(delivery)
        except LeaseLostError as error:
            log.warning("run ended without a result", reason=str(error))
        except RedisError as error:
            log.warning("run ended without a result; it is delivered again", reason=str(error))

    async def _promote(self) -> None:
        """Push jobs again whose delay is over. Every coordinator does so; each job is pushed once."""
        while True:
            with suppress(RedisError):  # the reading loop says so
                await self._writer.promote_due()
                await self._writer.unpark_all()
            await asyncio.sleep(PROMOTE_SECONDS)

    async def observe(self) -> None:
        """Show again and again what the queue holds, and whether Redis answers; before ``run``, too."""
        while True:
            try:
                backlog, ages = await self._stream.backlog(), await self._stream.ages()
                set_aside, config = await self._reader.set_aside(), await self._reader.config()
                metrics.observe_queue(backlog, ages, set_aside, config)
                self._is_redis_silent = False
            except RedisError:  # the reading loop logs it
                self._is_redis_silent = True
            self._show_redis()
            await asyncio.sleep(OBSERVE_SECONDS)

    def _show_redis(self) -> None:
        metrics.REDIS_REACHABLE.set(not (self._is_redis_away or self._is_redis_silent))


async def cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until each has cleaned up."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
