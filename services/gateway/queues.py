"""The queues that the presets name: for each a client, a feed and views. The only place that knows the SDK's client."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gsi.client.gateway import Views, open_feed, open_views
from gsi.client.sdk import AsyncClient
from gsi.jobs.feed import JobFeed
from services.gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of the presets."""

    client: AsyncClient
    feed: JobFeed
    views: Views


@asynccontextmanager
async def open_queues(settings: GatewaySettings, names: Iterable[str]) -> AsyncIterator[Mapping[str, Queue]]:
    """Connect to each queue. Raises MisconfiguredError for a URL that cannot be used."""
    url, access = settings.redis_url, settings.redis_access
    async with AsyncExitStack() as stack:
        yield {
            name: Queue(
                await stack.enter_async_context(AsyncClient(url, name, access)),
                await stack.enter_async_context(open_feed(url, name, access)),
                await stack.enter_async_context(open_views(url, name, access)),
            )
            for name in sorted(set(names))
        }
