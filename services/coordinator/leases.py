"""Leases of the jobs in flight: renewed by a task of their own, which no model call delays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from gsi.jobs.connection import RedisError
from gsi.jobs.writer import JobWriter, Lease
from services.coordinator import metrics

log = structlog.get_logger()

WATCH_SECONDS = 0.5  # how late a run may learn that its lease is lost, or that its job was cancelled


@dataclass(slots=True)
class Run:
    """A job in flight: the task that runs it, and why it was told to end."""

    task: asyncio.Task[None] | None
    is_lost: bool = False
    cancel_reason: str = ""


class LeaseKeeper:
    """Renews every held lease at a quarter of its length; cancels the run of one that was lost, or cancelled."""

    def __init__(self, writer: JobWriter, lease_seconds: float) -> None:
        self._writer = writer
        self._interval = lease_seconds / 4
        self._lease_ms = int(lease_seconds * 1000)
        self._runs: dict[Lease, Run] = {}

    @asynccontextmanager
    async def held(self, lease: Lease) -> AsyncIterator[Run]:
        """Keep the lease while the calling task is in this block; hand the job back if the task is cancelled."""
        run = self._runs[lease] = Run(asyncio.current_task())
        try:
            yield run
        except asyncio.CancelledError:
            if not run.is_lost:
                await self._hand_back(lease)
            raise
        finally:
            del self._runs[lease]

    async def keep(self) -> None:
        """Renew and watch until cancelled. A server that is away is asked again; its scripts refuse who is too late."""
        renew_at = 0.0
        while True:
            await asyncio.sleep(min(WATCH_SECONDS, self._interval))
            now = asyncio.get_running_loop().time()
            is_due = now >= renew_at
            try:
                for lease in list(self._runs):
                    await self._renew(lease) if is_due else await self._watch(lease)
            except RedisError as error:
                log.warning("leases not renewed", reason=str(error))
                continue
            if is_due:
                renew_at = now + self._interval

    async def _hand_back(self, lease: Lease) -> None:
        try:
            is_handed_back = await self._writer.hand_back(lease, self._lease_ms)
        except RedisError as error:
            log.warning("job not handed back; its lease must end first", reason=str(error))
            return
        if is_handed_back:
            log.info("job handed back")

    async def _renew(self, lease: Lease) -> None:
        hold = await self._writer.renew(lease)
        self._obey(lease, hold.is_held, hold.cancel_reason)

    async def _watch(self, lease: Lease) -> None:
        hold = await self._writer.look_at(lease)
        self._obey(lease, hold.is_held, hold.cancel_reason)

    def _obey(self, lease: Lease, is_held: bool, cancel_reason: str) -> None:
        run = self._runs.get(lease)  # it may have ended meanwhile
        if run is None or run.task is None or run.is_lost or run.cancel_reason:
            return
        if not is_held:
            log.warning("lease lost; the run is cancelled", job=lease.job_id)
            metrics.LEASES_LOST.inc()
            run.is_lost = True
            run.task.cancel()
        elif cancel_reason:
            log.info("job is cancelled", job=lease.job_id, reason=cancel_reason)
            run.cancel_reason = cancel_reason
            run.task.cancel()
