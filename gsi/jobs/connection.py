"""The connection to Redis: time-outs, retries, and what its configuration would lose."""

import asyncio
from collections.abc import Iterable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
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


class _Cancellable:
    """Sends within a time limit that leaves cancellation alone.

    redis-py sends by ``asyncio.wait_for``, which in Python 3.11 may lose a cancellation that comes as the sending ends:
    a run whose lease was lost would go on.
    """

    socket_timeout: float | None

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        connection: Any = super()
        limit, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit):
                await connection.send_packed_command(command, check_health)
        except TimeoutError as error:
            raise RedisTimeoutError("Timeout writing to socket") from error
        finally:
            self.socket_timeout = limit


class _Plain(_Cancellable, Connection):
    pass


class _Tls(_Cancellable, SSLConnection):
    pass


class _Unix(_Cancellable, UnixDomainSocketConnection):
    pass


CONNECTIONS: dict[type, type] = {Connection: _Plain, SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}


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
        pool.connection_class = CONNECTIONS[pool.connection_class]
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
