"""How often a key may ask, and how many tokens it may use: windows of a minute in Redis, which all gateways share.

Needs the extra ``gateway`` (the library ``limits``).
"""

import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter

from gsi.jobs.api_keys import PREFIX, TAG
from gsi.jobs.connection import Redis, RedisAccess, connect


@dataclass(frozen=True, slots=True)
class Window:
    """What is left of a minute's allowance. ``reset_seconds``: until there is more."""

    limit: int
    remaining: int
    reset_seconds: float
    is_exceeded: bool = False


class Rates:
    """Counts requests and tokens. Tokens are known afterwards: who has used them up waits for the next minute."""

    def __init__(self, redis: Redis) -> None:
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=f"{PREFIX}rate",
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]  # its own way in, which its types leave out
        )
        self._requests = SlidingWindowCounterRateLimiter(storage)
        self._tokens = FixedWindowRateLimiter(storage)

    async def take_request(self, key_id: str, limit: int) -> Window:
        """Count a request, unless the key has made ``limit`` within a minute."""
        item = RateLimitItemPerMinute(limit)
        is_allowed = await self._requests.hit(item, "requests", key_id)
        return await _window(self._requests, item, "requests", key_id, is_exceeded=not is_allowed)

    async def look_at_tokens(self, key_id: str, limit: int) -> Window:
        """Return what is left of the key's tokens in this minute."""
        item = RateLimitItemPerMinute(limit)
        is_allowed = await self._tokens.test(item, "tokens", key_id)
        return await _window(self._tokens, item, "tokens", key_id, is_exceeded=not is_allowed)

    async def use_tokens(self, key_id: str, limit: int, num_tokens: int) -> None:
        """Count tokens that were used, also beyond the limit."""
        await self._tokens.hit(RateLimitItemPerMinute(limit), "tokens", key_id, cost=num_tokens)


@asynccontextmanager
async def open_rates(redis_url: str, access: RedisAccess | None = None) -> AsyncIterator[Rates]:
    """Open the windows of a server. Raises MisconfiguredError for a URL that cannot be used."""
    async with aclosing(connect(redis_url, access, TAG)) as redis:
        yield Rates(redis)


async def _window(limiter: RateLimiter, item: RateLimitItemPerMinute, *identifiers: str, is_exceeded: bool) -> Window:
    stats = await limiter.get_window_stats(item, *identifiers)
    return Window(
        item.amount, max(0, stats.remaining), max(0.0, math.ceil(stats.reset_time - time.time())), is_exceeded
    )
