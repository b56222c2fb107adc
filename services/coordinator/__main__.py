"""Start the coordinator: ``python -m services.coordinator``."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from gsi.runtime.extras import imports_of

with imports_of("coordinator", "coordinator"):
    import structlog

    from gsi.errors import MisconfiguredError
    from gsi.grading.equality import EqualityChecker
    from gsi.jobs.connection import (
        LOST_CONNECTION,
        REFUSED,
        Redis,
        RedisError,
        connect,
        durability_warnings,
        is_exposed,
        mask_url,
    )
    from gsi.jobs.keys import Keys
    from gsi.jobs.newer_jobs import NewerJobs
    from gsi.jobs.policy import Policy
    from gsi.jobs.queue_models import QueueModels
    from gsi.jobs.reader import JobReader
    from gsi.jobs.stream import JobStream
    from gsi.jobs.writer import JobWriter
    from gsi.rpc.health import Health
    from gsi.runtime.event_loop import run
    from gsi.runtime.metrics import serve_metrics
    from gsi.runtime.process_log import configure_logging
    from gsi.runtime.settings import load_settings
    from gsi.runtime.signals import stop_on_signals
    from gsi.runtime.tracing import tracing
    from services.coordinator.background import BackgroundTaskError, background_tasks
    from services.coordinator.leases import LeaseKeeper
    from services.coordinator.models import Models, open_models
    from services.coordinator.queue_guard import QueueGuard
    from services.coordinator.runner import JobRunner
    from services.coordinator.settings import CoordinatorSettings
    from services.coordinator.worker import REDIS_RETRY_SECONDS, Worker

log = structlog.get_logger()

ANNOUNCE_SECONDS = 10.0
EXIT_TASK_ENDED = 70  # EX_SOFTWARE of sysexits.h


async def coordinate(settings: CoordinatorSettings) -> None:
    """Wire the parts, wait for Redis and the three services, and run jobs until SIGTERM or SIGINT.

    Raises MisconfiguredError, OSError or RedisError for what keeps it from starting, and BackgroundTaskError.
    """
    stop, health = stop_on_signals(), Health()
    serve_metrics(settings.metrics_listen)
    await health.start(settings.health_listen)
    consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    redis, keys = connect(settings.redis_url, settings.redis_access, settings.queue), Keys(settings.queue)
    policy = Policy(
        settings.max_attempts,
        settings.max_jobs_per_tenant,
        settings.result_ttl_seconds,
        settings.dead_ttl_seconds,
        settings.newer_job_seconds,
    )
    writer, reader, stream = JobWriter(redis, keys, policy), JobReader(redis, keys), JobStream(redis, keys, consumer)
    guard = QueueGuard(QueueModels(redis, keys), adopts=settings.adopt_queue)
    newer_jobs = NewerJobs(redis, keys, writer, policy)
    leases = LeaseKeeper(writer, settings.lease_seconds)
    equality = EqualityChecker()
    if is_exposed(settings.redis_url):
        log.warning(
            "redis is plain text: others on the network can read and change jobs", url=mask_url(settings.redis_url)
        )
    try:
        async with open_models(settings, guard.check) as models, background_tasks() as background:
            background.start("end of readiness", partial(_end_readiness, stop, health), may_return=True)
            runner = JobRunner(writer, reader, models, leases, equality, newer_jobs, settings.retry_seconds)
            worker = Worker(stream, writer, reader, runner, leases, settings.max_jobs, settings.lease_seconds)
            await _run_unless_stopped(stop, _prepare(redis, stream, models, worker))
            if not stop.is_set():
                await health.set_ready(is_ready=True)
                background.start("announcer", partial(_announce, newer_jobs))
                log.info("ready", queue=settings.queue, consumer=consumer, max_jobs=settings.max_jobs)
                await worker.run(stop)
    finally:
        await equality.close()
        await redis.aclose()
        await health.stop()
        log.info("stopped")


async def _prepare(redis: Redis, stream: JobStream, models: Models, worker: Worker) -> None:
    """Wait for Redis, log what it may lose, create the consumer group; then wait for the services."""
    await _wait_for_redis(redis, stream)
    async with background_tasks() as background:  # a model may load for half an hour
        background.start("queue observer", worker.observe)
        await models.connect()


async def _wait_for_redis(redis: Redis, stream: JobStream) -> None:
    is_logged = False
    while True:
        try:
            for warning in await durability_warnings(redis):
                log.warning("redis may lose jobs", reason=warning)
            await stream.create_group()
            return
        except REFUSED:
            raise  # a wrong password is a ConnectionError of redis-py, and time does not correct it
        except LOST_CONNECTION as error:
            if not is_logged:
                log.warning("redis is away; waiting for it", reason=str(error))
            is_logged = True
            await asyncio.sleep(REDIS_RETRY_SECONDS)


async def _announce(newer_jobs: NewerJobs) -> None:
    """Note which payloads this coordinator reads, for those of an older release, until cancelled."""
    while True:
        with suppress(RedisError):  # the reading loop logs it
            await newer_jobs.announce()
        await asyncio.sleep(ANNOUNCE_SECONDS)


async def _end_readiness(stop: asyncio.Event, health: Health) -> None:
    """Report that this process is about to stop before anything else ends."""
    await stop.wait()
    await health.set_ready(is_ready=False)


async def _run_unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and abandon it as soon as ``stop`` is set."""
    tasks = [asyncio.create_task(work), asyncio.create_task(stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Run the coordinator; exit 1 if it cannot start, and 70 if a background task ended unexpectedly."""
    settings = load_settings(CoordinatorSettings)
    configure_logging("coordinator", settings.log_format, settings.log_level)
    tracing.start("coordinator", settings.traces_endpoint, settings.traces_sample_ratio)
    try:
        run(coordinate(settings))
    except (MisconfiguredError, OSError, RedisError) as error:  # models, addresses, Redis rights
        log.error("cannot start", error=str(error))
        sys.exit(1)
    except BackgroundTaskError as error:
        log.error("a background task ended; this process must be restarted", error=str(error), exc_info=error.__cause__)
        sys.exit(EXIT_TASK_ENDED)
    finally:
        tracing.stop()


if __name__ == "__main__":
    main()
