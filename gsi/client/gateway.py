"""What the gateway needs of Redis beside the SDK: feeds and views of queues, keys of its users, and what they keep."""

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
from gsi.jobs.listing import JobList
from gsi.jobs.overview import OverviewReader
from gsi.jobs.progress import ProgressReader


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


@dataclass(frozen=True, slots=True)
class Views:
    """What is looked at of one queue: its jobs, how far they are, and the queue itself."""

    jobs: JobList
    progress: ProgressReader
    overview: OverviewReader


@asynccontextmanager
async def open_views(redis_url: str, queue: str, access: RedisAccess | None = None) -> AsyncIterator[Views]:
    """Open the views of a queue. Raises MisconfiguredError for a URL that cannot be used."""
    async with aclosing(connect(redis_url, access, queue)) as redis:
        keys = Keys(queue)
        yield Views(JobList(redis, keys), ProgressReader(redis, keys), OverviewReader(redis, keys))


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
