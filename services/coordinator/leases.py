"""Leases of the jobs in flight: a task of its own renews them, and no model call delays that task."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from gsi.jobs.connection import RedisError
from gsi.jobs.writer import Hold, JobWriter, Lease
from services.coordinator import metrics

log = structlog.get_logger()

WATCH_SECONDS = 0.5  # the longest time until a run learns that its lease is lost or its job is cancelled
MAX_TOGETHER = 1000  # leases of a round trip: the server takes about ten milliseconds for them


@dataclass(slots=True)
class RunningJob:
    """A job in flight: the task that runs it, and why that task was told to end."""

    task: asyncio.Task[None] | None
    is_lost: bool = False
    cancel_reason: str = ""


class LeaseKeeper:
    """Renews every held lease at a quarter of its length; cancels a run once its lease is lost or its job cancelled."""

    def __init__(self, writer: JobWriter, lease_seconds: float) -> None:
        self._writer = writer
        self._interval = lease_seconds / 4
        self._lease_ms = int(lease_seconds * 1000)
        self._running: dict[Lease, RunningJob] = {}

    @asynccontextmanager
    async def hold(self, lease: Lease) -> AsyncIterator[RunningJob]:
        """Keep the lease while the calling task is in this block; hand the job back if that task is cancelled."""
        job = self._running[lease] = RunningJob(asyncio.current_task())
        try:
            yield job
        except asyncio.CancelledError:
            if not job.is_lost:
                await self._hand_back(lease)
            raise
        finally:
            del self._running[lease]

    async def keep(self) -> None:
        """Renew and watch the leases until cancelled. While Redis is unavailable, try again.

        A run whose lease ends in that time stays harmless: Redis refuses its writes.
        """
        renew_at = 0.0
        while True:
            await asyncio.sleep(min(WATCH_SECONDS, self._interval))
            now = asyncio.get_running_loop().time()
            is_due = now >= renew_at
            try:
                is_told = await self._check_all(is_due=is_due)
            except RedisError as error:
                log.warning("leases not renewed", reason=str(error))
                continue
            if is_due and is_told:
                renew_at = now + self._interval

    async def _check_all(self, *, is_due: bool) -> bool:
        """Renew or watch all leases and obey; return False if the server did not answer for one of them.

        One round trip for up to ``MAX_TOGETHER`` leases. A record that somebody has spoilt harms no other job's lease.
        """
        is_told, leases = True, list(self._running)
        for first in range(0, len(leases), MAX_TOGETHER):
            together = leases[first : first + MAX_TOGETHER]
            holds = await (self._writer.renew(together) if is_due else self._writer.look_at(together))
            for lease, hold in zip(together, holds, strict=True):
                if isinstance(hold, RedisError):
                    log.warning("lease not renewed", job=lease.job_id, reason=str(hold))
                    is_told = False
                else:
                    self._obey(lease, hold)
        return is_told

    async def _hand_back(self, lease: Lease) -> None:
        try:
            is_handed_back = await self._writer.hand_back(lease, self._lease_ms)
        except RedisError as error:
            log.warning("job not handed back; its lease must end first", reason=str(error))
            return
        if is_handed_back:
            log.info("job handed back")

    def _obey(self, lease: Lease, hold: Hold) -> None:
        """Cancel the run if its lease is lost or its job is to be cancelled."""
        job = self._running.get(lease)  # the run may have ended meanwhile
        if job is None or job.task is None or job.is_lost or job.cancel_reason:
            return
        if not hold.is_held:
            log.warning("lease lost; the run is cancelled", job=lease.job_id)
            metrics.LEASES_LOST.inc()
            job.is_lost = True
            job.task.cancel()
        elif hold.cancel_reason:
            log.info("job is cancelled", job=lease.job_id, reason=hold.cancel_reason)
            job.cancel_reason = hold.cancel_reason
            job.task.cancel()
