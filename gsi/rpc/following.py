"""How the process of another node than node 0 lives: join, load, follow, stop. It takes no calls."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gsi.engines.base import Follower
from gsi.errors import InternalError
from gsi.rpc.health import Health
from gsi.rpc.watch import watch_until
from gsi.runtime.settings import ServiceSettings

log = structlog.get_logger()


async def follow(
    settings: ServiceSettings, load: Callable[[], Awaitable[Follower]], rank: int, stop: asyncio.Event
) -> None:
    """Be node ``rank`` of an engine until node 0 ends. After ``stop``, wait for node 0 no longer than it may drain.

    Only the health service answers, at ``health_listen``: ready from the return of ``load`` until ``stop`` is set.
    Raises OSError if the address cannot be bound, InternalError if node 0, a worker or the health service's server
    ends before ``stop`` is set, and whatever ``load`` raises.
    """
    health = Health()
    await health.start(settings.health_listen)
    follower: Follower | None = None
    try:
        log.info("loading", model=settings.model, engine=settings.engine, node_rank=rank)
        follower = await _load_unless_stopped(load, stop)
        if follower is None:
            return
        await health.set_ready(is_ready=True)
        log.info("ready", model=settings.model, node_rank=rank)
        if reason := await watch_until(stop.wait(), follower.wait_until_dead(), health.wait_until_server_ends()):
            raise InternalError(reason)
        await health.set_ready(is_ready=False)
        # Node 0 is told to stop at the same time, and needs this node until it has drained.
        needed_seconds = settings.drain_pause_seconds + settings.grace_seconds
        log.info("draining", grace_seconds=needed_seconds)
        await watch_until(asyncio.sleep(needed_seconds), follower.wait_until_dead())
    except InternalError:
        await health.set_alive(is_alive=False)
        raise
    finally:
        await health.stop()
        if follower is not None:
            follower.close()
        log.info("stopped")


async def _load_unless_stopped(load: Callable[[], Awaitable[Follower]], stop: asyncio.Event) -> Follower | None:
    """Return the follower; None if ``stop`` is set before it has loaded, since node 0 may never come."""
    loading, stopping = asyncio.ensure_future(load()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return loading.result() if loading.done() else None
    finally:
        loading.cancel()
        stopping.cancel()
