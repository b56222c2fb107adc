"""How a process lives that works for another node's engine: join, load, follow, stop. It takes no calls."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gsi.engines.base import Follower
from gsi.errors import InternalError
from gsi.rpc.health import Health
from gsi.runtime.settings import ServiceSettings

log = structlog.get_logger()


async def follow(
    settings: ServiceSettings, load: Callable[[], Awaitable[Follower]], rank: int, stop: asyncio.Event
) -> None:
    """Be node ``rank`` of an engine until node 0 ends; from ``stop`` on only for as long as node 0 may drain.

    Only the health service answers, and only at ``health_listen``: ready once ``load`` has returned, until ``stop``.
    Raises OSError if its address cannot be bound, InternalError if node 0 has gone or a worker has ended unasked, and
    what ``load`` raises.
    """
    health = Health()
    await health.start(settings.health_listen)
    follower: Follower | None = None
    stopping = asyncio.create_task(stop.wait())
    try:
        log.info("loading", model=settings.model, engine=settings.engine, node_rank=rank)
        loading = asyncio.ensure_future(load())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            return
        follower = loading.result()
        await health.set_ready(is_ready=True)
        log.info("ready", model=settings.model, node_rank=rank)
        death = asyncio.create_task(follower.died())
        await asyncio.wait({death, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await health.set_alive(is_alive=False)
            raise InternalError(death.result())
        await health.set_ready(is_ready=False)
        # Node 0 is told to stop at the same time, and needs this node until it has drained.
        needed_seconds = settings.drain_pause_seconds + settings.grace_seconds
        log.info("draining", grace_seconds=needed_seconds)
        await asyncio.wait({death}, timeout=needed_seconds)
        death.cancel()
    finally:
        stopping.cancel()
        await health.stop()
        if follower is not None:
            follower.close()
        log.info("stopped")
