"""Start the exporter: ``python -m services.exporter``.

It needs no coordinator, so that their absence hides no queue.
"""

import asyncio
import sys
from contextlib import aclosing, suppress

from gsi.runtime.extras import imports_of

with imports_of("exporter", "service"):
    import structlog

    from gsi.errors import MisconfiguredError
    from gsi.jobs.connection import REFUSED, RedisError, connect, is_exposed, mask_url
    from gsi.jobs.keys import Keys
    from gsi.jobs.observer import QueueObserver
    from gsi.jobs.queue_metrics import observe_queue
    from gsi.jobs.redis_metrics import REDIS_REACHABLE
    from gsi.rpc.health import Health
    from gsi.runtime.event_loop import run
    from gsi.runtime.metrics import serve_metrics
    from gsi.runtime.process_log import configure_logging
    from gsi.runtime.settings import load_settings
    from gsi.runtime.signals import stop_on_signals
    from services.exporter.metrics import COORDINATORS
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
        observer = QueueObserver(redis, Keys(settings.queue))
        await _look(observer, was_reachable=True, is_first=True)
        serve_metrics(settings.metrics_listen)
        await health.start(settings.health_listen)
        await health.set_ready(is_ready=True)
        log.info("ready", queue=settings.queue)
        await _look_until(stop, observer, settings.look_seconds)
        await health.set_ready(is_ready=False)
    await health.stop()
    log.info("stopped")


async def _look_until(stop: asyncio.Event, observer: QueueObserver, pause_seconds: float) -> None:
    is_reachable = True
    while not stop.is_set():
        is_reachable = await _look(observer, was_reachable=is_reachable)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_seconds)


async def _look(observer: QueueObserver, *, was_reachable: bool, is_first: bool = False) -> bool:
    """Show the queue as it is now; return whether Redis answered. Raises RedisError if it refuses us at first."""
    try:
        seen = await observer.look()
    except RedisError as error:
        if is_first and isinstance(error, REFUSED):
            raise  # a wrong password or a missing right; a later refusal is a password that changes, and is waited out
        if was_reachable:
            log.warning("redis is away; the last numbers stay", reason=str(error))
        REDIS_REACHABLE.set(0)
        return False
    if not was_reachable:
        log.info("redis is back")
    observe_queue(seen.backlog, seen.ages, seen.set_aside, seen.config)
    COORDINATORS.set(seen.num_coordinators)
    REDIS_REACHABLE.set(1)
    return True


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
