"""Leases of the jobs in flight: renewed by a task of their own, which no model call delays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from gsi.jobs.connection import RedisError
from gsi.jobs.store import JobStore, Lease

log = structlog.get_logger()


class LeaseKeeper:
    """Renews every held lease at a quarter of its length, and cancels the run of one that was lost."""

    def __init__(self, store: JobStore, consumer: str, lease_seconds: float) -> None:
        self._store = store
        self._consumer = consumer
        self._interval = lease_seconds / 4
        self._lease_ms = int(lease_seconds * 1000)
        self._runs: dict[Lease, asyncio.Task[None] | None] = {}

    @asynccontextmanager
    async def held(self, lease: Lease) -> AsyncIterator[None]:
        """Keep the lease while the calling task is in this block; hand the job back if the task is cancelled."""
        self._runs[lease] = asyncio.current_task()
        try:
            yield
        except asyncio.CancelledError:
            await self._hand_back(lease)
            raise
        finally:
            del self._runs[lease]

    async def keep(self) -> None:
        """Renew until cancelled. A server that is away is tried again; its scripts refuse a run that is too late."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                for lease in list(self._runs):
                    await self._renew(lease)
            except RedisError as error:
                log.warning("leases not renewed", reason=str(error))

    async def _hand_back(self, lease: Lease) -> None:
        try:
            is_handed_back = await self._store.hand_back(lease, self._consumer, self._lease_ms)
        except RedisError as error:
            log.warning("job not handed back; its lease must end first", job=lease.job_id, reason=str(error))
            return
        if is_handed_back:
            log.info("job handed back", job=lease.job_id)

    async def _renew(self, lease: Lease) -> None:
        if await self._store.renew(lease, self._consumer):
            return
        run = self._runs.get(lease)  # it may have ended meanwhile
        if run is not None:
            log.warning("lease lost; the run is cancelled", job=lease.job_id)
            run.cancel()
