"""Start the exporter: ``python -m services.exporter``.

It needs no coordinator, so that their absence hides no queue.
"""

import asyncio
import sys
import time
from contextlib import aclosing, suppress

from gsi.runtime.extras import imports_of

with imports_of("exporter", "service"):
    import structlog

    from gsi.errors import MisconfiguredError
    from gsi.jobs.connection import REFUSED, Redis, RedisError, connect, is_exposed, mask_url
    from gsi.jobs.keys import Keys
    from gsi.jobs.observer import QueueObserver
    from gsi.jobs.queue_metrics import observe_queue
    from gsi.jobs.redis_metrics import REDIS_REACHABLE
    from gsi.jobs.tenant_jobs import TenantJobs
    from gsi.rpc.health import Health
    from gsi.runtime.event_loop import run
    from gsi.runtime.metrics import serve_metrics
    from gsi.runtime.process_log import configure_logging
    from gsi.runtime.settings import load_settings
    from gsi.runtime.signals import stop_on_signals
    from services.exporter.metrics import COORDINATORS, observe_memory, observe_tenants
    from services.exporter.settings import ExporterSettings

log = structlog.get_logger()


async def export(settings: ExporterSettings) -> None:
    """Look at the queue again and again until SIGTERM or SIGINT.

    Raises MisconfiguredError, OSError or RedisError for what keeps it from starting.
    """
    stop, health = stop_on_signals(), Health()
    if is_exposed(settings.redis_url):
        log.warning("redis is plain text: others on the network can read jobs", url=mask_url(settings.redis_url))
    async with aclosing(connect(settings.redis_url, settings.redis_access, settings.queue)) as redis:
        exporter = Exporter(redis, Keys(settings.queue), settings.tenant_seconds)
        await exporter.look(is_first=True)
        serve_metrics(settings.metrics_listen)
        await health.start(settings.health_listen)
        await health.set_ready(is_ready=True)
        log.info("ready", queue=settings.queue)
        while not stop.is_set():
            await exporter.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), settings.look_seconds)
        await health.set_ready(is_ready=False)
    await health.stop()
    log.info("stopped")


class Exporter:
    """Looks at one queue, and shows what it sees."""

    def __init__(self, redis: Redis, keys: Keys, tenant_seconds: float) -> None:
        self._observer, self._tenants = QueueObserver(redis, keys), TenantJobs(redis, keys)
        self._tenant_seconds = tenant_seconds
        self._count_at = 0.0  # of the monotonic clock
        self._is_reachable = True
        self._lacking: set[str] = set()  # rights that the log has named

    async def look(self, *, is_first: bool = False) -> None:
        """Show the queue as it is now. Raises RedisError if Redis refuses this user at first."""
        try:
            await self._look()
        except RedisError as error:
            if is_first and isinstance(error, REFUSED):
                raise  # a wrong password or a missing right; later, a password that changes, which is waited out
            if self._is_reachable:
                log.warning("redis is away; the last numbers stay", reason=str(error))
            self._is_reachable = False
            REDIS_REACHABLE.set(0)

    async def _look(self) -> None:
        seen = await self._observer.look()
        if not self._is_reachable:
            log.info("redis is back")
        self._is_reachable = True
        observe_queue(seen.backlog, seen.ages, seen.set_aside, seen.config)
        COORDINATORS.set(seen.num_coordinators)
        REDIS_REACHABLE.set(1)
        observe_memory(seen.memory)
        if seen.memory is None:
            self._note_lack("info")
        if time.monotonic() >= self._count_at:
            await self._count_tenants()
            self._count_at = time.monotonic() + self._tenant_seconds

    async def _count_tenants(self) -> None:
        counts = await self._tenants.count()
        if counts is None:
            self._note_lack("hgetall")
        else:
            observe_tenants(counts)

    def _note_lack(self, command: str) -> None:
        """Say once that this user's rights are those of an older release; all other numbers are shown."""
        if command not in self._lacking:
            log.warning("redis refuses a command; its numbers are missing (docs/redis.md, ACLs)", command=command)
            self._lacking.add(command)


def main() -> None:
    """Run the exporter; exit 1 if it cannot start."""
    settings = load_settings(ExporterSettings)
    configure_logging("exporter", settings.log_format, settings.log_level)
    try:
        run(export(settings))
    except (MisconfiguredError, OSError, RedisError) as error:  # addresses, the URL of Redis, its rights
        log.error("cannot start", error=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
