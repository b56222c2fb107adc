"""What the gateway needs of Redis beside the SDK: feeds of many jobs, keys of its users, and what they keep."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from gsi.jobs.accounts import OpenAccounts
from gsi.jobs.api_keys import TAG, ApiKeys
from gsi.jobs.connection import RedisAccess, connect
from gsi.jobs.documents import Documents, Unfinished
from gsi.jobs.feed import JobFeed
from gsi.jobs.keys import Keys


@asynccontextmanager
async def open_feed(redis_url: str, queue: str, access: RedisAccess | None = None) -> AsyncIterator[JobFeed]:
    """Read a queue's feed while the block runs. Raises MisconfiguredError for a URL that cannot be used."""
    async with aclosing(connect(redis_url, access, queue)) as redis:
        feed = JobFeed(redis, Keys(queue))
        reading = asyncio.create_task(feed.run())
        try:
            yield feed
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


@asynccontextmanager
async def open_api_keys(redis_url: str, access: RedisAccess | None = None) -> AsyncIterator[ApiKeys]:
    """Open the keys of a server. Raises MisconfiguredError for a URL that cannot be used."""
    async with aclosing(connect(redis_url, access, TAG)) as redis:
        yield ApiKeys(redis)


@dataclass(frozen=True, slots=True)
class Store:
    """What gateways keep beside their jobs."""

    responses: Documents
    conversations: Documents
    files: Documents
    batches: Documents
    unfinished: Unfinished
    accounts: OpenAccounts


@asynccontextmanager
async def open_store(redis_url: str, owner: str, access: RedisAccess | None = None) -> AsyncIterator[Store]:
    """Open what the gateways of a server keep; ``owner`` names this one. Raises MisconfiguredError for a bad URL."""
    async with aclosing(connect(redis_url, access, TAG)) as redis:
        yield Store(
            responses=Documents(redis, "response"),
            conversations=Documents(redis, "conversation"),
            files=Documents(redis, "file"),
            batches=Documents(redis, "batch"),
            unfinished=Unfinished(redis, owner),
            accounts=OpenAccounts(redis, owner),
        )
