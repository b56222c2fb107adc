"""Start the coordinator: ``python -m services.coordinator``."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Coroutine
from typing import Any

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
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobWriter
from gsi.rpc.health import Health
from gsi.runtime.metrics import serve_metrics
from gsi.runtime.process_log import configure_logging
from gsi.runtime.settings import load_settings
from gsi.runtime.signals import stop_on_signals
from gsi.runtime.tracing import tracing
from services.coordinator.leases import LeaseKeeper
from services.coordinator.models import Models
from services.coordinator.runner import JobRunner
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.worker import REDIS_AWAY_SECONDS, Worker, cancelled

log = structlog.get_logger()


async def coordinate(settings: CoordinatorSettings) -> None:
    """Wire the parts, wait for Redis and the three services, and run jobs until SIGTERM or SIGINT."""
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
    )
    writer, reader = JobWriter(redis, keys, policy), JobReader(redis, keys)
    stream, models = JobStream(redis, keys, consumer), Models(settings)
    leases = LeaseKeeper(writer, settings.lease_seconds)
    equality = EqualityChecker()
    runner = JobRunner(writer, reader, models, leases, equality, settings.retry_seconds)
    worker = Worker(stream, writer, reader, runner, leases, settings.max_jobs, settings.lease_seconds)
    if is_exposed(settings.redis_url):
        log.warning(
            "redis is plain text: others on the network can read and change jobs", url=mask_url(settings.redis_url)
        )
    stopping = asyncio.create_task(_end_readiness(stop, health))
    try:
        await _unless_stopped(stop, _prepare(redis, stream, models, worker))
        if not stop.is_set():
            await health.set_ready(is_ready=True)
            log.info("ready", queue=settings.queue, consumer=consumer, max_jobs=settings.max_jobs)
            await worker.run(stop)
    finally:
        stopping.cancel()
        await equality.close()
        await models.close()
        await redis.aclose()
        await health.stop()
        log.info("stopped")


async def _prepare(redis: Redis, stream: JobStream, models: Models, worker: Worker) -> None:
    """Wait for Redis, say what it may lose, make the group; then wait for the services."""
    is_away = False
    while True:
        try:
            for warning in await durability_warnings(redis):
                log.warning("redis may lose jobs", reason=warning)
            await stream.create_group()
            break
        except REFUSED:
            raise  # a wrong password is a ConnectionError of redis-py, and waiting does not mend it
        except LOST_CONNECTION as error:
            if not is_away:
                log.warning("redis is away; waiting for it", reason=str(error))
            is_away = True
            await asyncio.sleep(REDIS_AWAY_SECONDS)
    observing = asyncio.create_task(worker.observe())  # a model may load for half an hour
    try:
        await models.connect()
    finally:
        await cancelled([observing])


async def _end_readiness(stop: asyncio.Event, health: Health) -> None:
    """Say that we are about to stop before anything else ends."""
    await stop.wait()
    await health.set_ready(is_ready=False)


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and leave it as soon as ``stop`` is set."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        await cancelled([task, stopping])


if __name__ == "__main__":
    given = load_settings(CoordinatorSettings)
    configure_logging("coordinator", given.log_format, given.log_level)
    tracing.start("coordinator", given.traces_endpoint, given.traces_sample_ratio)
    try:
        asyncio.run(coordinate(given))
    except (MisconfiguredError, OSError, RedisError) as error:  # models, addresses, Redis rights
        log.error("cannot start", error=str(error))
        sys.exit(1)
    finally:
        tracing.stop()
