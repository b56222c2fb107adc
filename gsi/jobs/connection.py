"""The connection to Redis: time-outs, retries, and what its configuration would lose."""

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gsi.errors import MisconfiguredError

__all__ = ["LOST_CONNECTION", "MAX_CONNECTIONS", "Redis", "RedisError", "connect", "durability_warnings"]

LOST_CONNECTION = (RedisConnectionError, RedisTimeoutError)  # what a server that is away looks like
OLDEST_VERSION = (7, 0)
MAX_CONNECTIONS = 100
SOCKET_TIMEOUT_SECONDS = 10.0  # longer than any BLOCK that we ask for


def connect(url: str) -> Redis:
    """Return a client of the server at ``url``; it connects when it is first used, and retries for about 3 s.

    When all connections are in use, by many followers say, a command waits for one.
    """
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=1.0)
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=None,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(backoff, retries=6),
            health_check_interval=15,
        )
        return Redis.from_pool(pool)
    except ValueError as error:
        raise MisconfiguredError(f"redis url: {error}") from None


async def durability_warnings(redis: Redis) -> list[str]:
    """Return a sentence for each way in which this server, as configured, can lose jobs.

    Raises MisconfiguredError for a server that is too old.
    """
    info: dict[str, Any] = await redis.info("everything")
    version = tuple(int(part) for part in str(info.get("redis_version", "0.0")).split(".")[:2])
    if version < OLDEST_VERSION:
        raise MisconfiguredError(f"redis is version {info['redis_version']}; needed: 7.0 or newer")
    warnings = []
    if not info.get("aof_enabled"):
        warnings.append("appendonly is off: a restart of the server loses the jobs since its last snapshot")
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        warnings.append(f"maxmemory-policy is {info['maxmemory_policy']}: a full server deletes jobs (use noeviction)")
    return warnings
