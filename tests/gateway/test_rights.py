"""What the gateway does in Redis, with the rights that docs/redis.md gives its user and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from gsi.client.gateway import open_api_keys, open_feed, open_store, open_views
from gsi.client.rates import open_rates
from gsi.client.sdk import AsyncClient
from gsi.errors import InvalidRequestError
from gsi.jobs.api_keys import digest_of
from gsi.jobs.connection import RedisAccess, connect
from gsi.jobs.keys import Keys
from gsi.jobs.listing import JobFilter
from gsi.jobs.stream import JobStream
from gsi.local.embedded_redis import embedded_redis
from tests.jobs.test_redis_security import PASSWORD, RIGHTS


@pytest.fixture
async def root() -> AsyncIterator[tuple[Any, str]]:
    """A server's owner, and the URL of the gateway's user."""
    with embedded_redis() as url:
        async with aclosing(connect(url)) as client:
            redis: Any = client
            rights = RIGHTS["gsi-gateway"].replace("change-me", PASSWORD)
            await redis.execute_command("ACL", "SETUSER", "gsi-gateway", "reset", *rights.split())
            await JobStream(client, Keys("default"), "worker").create_group()
            yield redis, url.replace("redis://", f"redis://gsi-gateway:{PASSWORD}@")


async def test_the_documented_rights_are_enough(root: tuple[Any, str]) -> None:
    """Keys, rates, documents, leases of batches, a job that is followed and cancelled, a queue that is looked at."""
    redis, url = root
    access = RedisAccess()
    async with open_api_keys(url, access) as keys:
        secret, key = await keys.create("a", requests_per_minute=5)
        await keys.spend(digest_of(secret), 7)
        assert [spent for _, spent in await keys.list()] == [7]
        assert await keys.find(secret) == (key, 7)
        await keys.revoke(key.id)
    async with open_rates(url, access) as rates:
        assert (await rates.take_request("a", 5)).remaining == 4
        await rates.use_tokens("a", 100, 30)
        assert (await rates.look_at_tokens("a", 100)).remaining == 70
    async with open_store(url, "me", access) as store:
        await store.files.save("t", "f", "{}", 60, 1)
        assert await store.files.list("t", 10) == (["{}"], False)
        await store.files.delete("t", "f")
        await store.unfinished.add("t", "b")
        assert await store.unfinished.own("t", "b", 10)
        assert await store.unfinished.own("t", "b", 10)
        await store.unfinished.cancel("t", "b")
        assert await store.unfinished.is_cancelled("t", "b")
        await store.unfinished.release("t", "b")
        await store.unfinished.remove("t", "b")
        assert await store.unfinished.list() == []
    async with open_feed(url, "default", access) as feed, AsyncClient(url, access=access) as client:
        await feed.connected.wait()
        with feed.watch("job-1") as watch:
            await asyncio.sleep(0.1)
            await feed.refresh()
            await client.submit({"id": "job-1", "prompt": "2 + 3"})
            await client.cancel("job-1", "not needed")
            async with asyncio.timeout(10):
                assert [step async for step in watch.steps()] == []
    async with open_views(url, "default", access) as views, AsyncClient(url, access=access) as client:
        (job,) = await views.jobs.newest(JobFilter(text="2 + 3"), 10)
        assert await views.progress.read([job]) == {}
        await client.admin.pause()
        assert (await views.overview.look()).is_paused
        await client.admin.resume()
        with pytest.raises(InvalidRequestError, match="allowed: a job that is DEAD"):
            await client.dead.retry("job-1")
    assert [f"{entry['username']}: {entry['object']}" for entry in await redis.acl_log()] == []


async def test_a_batch_has_one_owner_at_a_time(redis_url: str) -> None:
    """Another gateway gets it when its owner lets it go, or is gone for the time that it has."""
    async with open_store(redis_url, "first") as first, open_store(redis_url, "second") as second:
        assert await first.unfinished.own("t", "owned", 0.3)
        assert not await second.unfinished.own("t", "owned", 0.3)
        await second.unfinished.release("t", "owned")  # which is not its own
        assert await first.unfinished.own("t", "owned", 0.3)
        await asyncio.sleep(0.4)
        assert await second.unfinished.own("t", "owned", 10)
        await second.unfinished.release("t", "owned")
        assert await first.unfinished.own("t", "owned", 10)


async def test_documents_are_listed_in_pages_without_those_that_expired(redis_url: str) -> None:
    """The newest first; a page begins behind the last one of the page before."""
    async with open_store(redis_url, "me") as store:
        for number in range(5):
            await store.batches.save("pages", f"b{number}", str(number), 60, number)
        await store.batches.save("pages", "short", "short", 0.05, 9)
        await asyncio.sleep(0.1)
        assert await store.batches.list("pages", 3) == (["4", "3", "2"], True)
        assert await store.batches.list("pages", 3, after="b2") == (["1", "0"], False)
        assert await store.batches.list("other", 3) == ([], False)
