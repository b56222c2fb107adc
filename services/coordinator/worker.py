"""Many jobs at once: take no more than there are free slots, run each, take over the jobs of lost coordinators."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from gsi.jobs.connection import RedisError
from gsi.jobs.queue_metrics import observe_queue
from gsi.jobs.reader import JobReader
from gsi.jobs.redis_metrics import REDIS_REACHABLE
from gsi.jobs.stream import Delivery, JobStream
from gsi.jobs.writer import JobWriter, LeaseLostError
from services.coordinator import metrics
from services.coordinator.background import BackgroundTasks, background_tasks, is_cancelled
from services.coordinator.leases import LeaseKeeper
from services.coordinator.runner import JobRunner

log = structlog.get_logger()

BLOCK_SECONDS = 0.5  # the longest time until a stop is noticed
REDIS_RETRY_SECONDS = 1.0
OBSERVE_SECONDS = 2.0
PROMOTE_SECONDS = 0.5
LEAVE_SECONDS = 2.0  # the longest time that leaving an unavailable Redis may take
IDLE_LEASES = 4  # a coordinator asks for entries four times a lease, or holds one


class Worker:
    """Reads one queue until it is told to stop; then it hands its jobs back, and other coordinators resume them."""

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
        # Reading and observing learn of Redis at different times: a full Redis answers reads and refuses writes, and
        # with all slots in use nothing is read.
        self._can_take = True
        self._can_observe = True

    async def run(self, stop: asyncio.Event) -> None:
        """Run jobs until ``stop`` is set. Raises BackgroundTaskError; either way jobs in flight are handed back."""
        try:
            async with background_tasks() as background:
                background.start("lease keeper", self._leases.keep)
                background.start("promoter", self._promote)
                background.start("queue observer", self.observe)
                background.start("remover of idle consumers", self._remove_idle_consumers)
                while not stop.is_set():
                    for delivery in await self._take():
                        self._start(delivery, background)
        finally:
            await self._leave()

    async def observe(self) -> None:
        """Show what the queue holds, and whether Redis answers, every two seconds until cancelled."""
        while True:
            try:
                backlog, ages = await self._stream.backlog(), await self._stream.ages()
                set_aside, config = await self._reader.set_aside(), await self._reader.config()
                observe_queue(backlog, ages, set_aside, config)
                self._can_observe = True
            except RedisError:  # the reading loop logs it
                self._can_observe = False
            self._show_redis()
            await asyncio.sleep(OBSERVE_SECONDS)

    async def _take(self) -> Sequence[Delivery]:
        """Return jobs for the free slots; none if half a second brought none."""
        num_free = self._max_jobs - len(self._runs)
        if num_free == 0:
            await asyncio.wait(self._runs, timeout=BLOCK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return []
        try:
            found = await self._take_over(num_free) or await self._stream.take_new(num_free, int(BLOCK_SECONDS * 1000))
        except RedisError as error:  # unavailable, or unable to write: its disk or its memory is full
            await self._wait_for_redis(error)
            return []
        if not self._can_take:
            log.info("redis is back")
            self._can_take = True
            self._show_redis()
        return found

    async def _take_over(self, num_free: int) -> Sequence[Delivery]:
        """Take over jobs of lost coordinators; look again at once while there are more of them than free slots."""
        if time.monotonic() < self._take_over_at:
            return []
        found = await self._stream.take_over(num_free, int(self._lease_seconds * 1000))
        if len(found) < num_free:
            self._take_over_at = time.monotonic() + self._lease_seconds / 4
        for delivery in found:
            log.info("job taken over", entry=delivery.entry_id)
        metrics.REDELIVERIES.inc(len(found))
        return found

    async def _wait_for_redis(self, error: RedisError) -> None:
        if self._can_take:
            log.warning("redis is away or refuses to work; jobs wait for it", reason=str(error))
            self._can_take = False
            self._show_redis()
        await asyncio.sleep(REDIS_RETRY_SECONDS)

    def _start(self, delivery: Delivery, background: BackgroundTasks) -> None:
        run = background.start("run of a job", partial(self._run, delivery), may_return=True)
        self._runs.add(run)
        metrics.JOBS_IN_FLIGHT.set(len(self._runs))
        run.add_done_callback(self._forget)

    def _forget(self, run: asyncio.Task[None]) -> None:
        self._runs.discard(run)
        metrics.JOBS_IN_FLIGHT.set(len(self._runs))

    async def _run(self, delivery: Delivery) -> None:
        """Run one job. A run that ends without a result is delivered again once its lease has ended."""
        try:
            await self._runner.run(delivery)
        except LeaseLostError as error:
            log.warning("run ended without a result", reason=str(error))
        except RedisError as error:
            log.warning("run ended without a result; it is delivered again", reason=str(error))
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            log.exception("run ended without a result; it is delivered again", entry=delivery.entry_id)
        except Exception:  # a fault of ours with one job, which must not end the runs of the others
            log.exception("run ended without a result; it is delivered again", entry=delivery.entry_id)

    async def _promote(self) -> None:
        """Push each job whose delay is over or whose tenant may have more in flight, until cancelled.

        Every coordinator does so; Redis pushes each job once.
        """
        while True:
            with suppress(RedisError):  # the reading loop logs it
                await self._writer.promote_due()
                await self._writer.unpark_all()
            await asyncio.sleep(PROMOTE_SECONDS)

    async def _remove_idle_consumers(self) -> None:
        """Remove the consumers of coordinators that were killed, once others have taken over their jobs."""
        while True:
            await asyncio.sleep(self._lease_seconds)
            with suppress(RedisError):  # the reading loop logs it
                await self._stream.remove_idle_consumers(int(IDLE_LEASES * self._lease_seconds * 1000))

    async def _leave(self) -> None:
        """Leave the group. Whoever takes over what was handed back removes this consumer later."""
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._stream.leave()

    def _show_redis(self) -> None:
        REDIS_REACHABLE.set(self._can_take and self._can_observe)
