"""Sentinel and Cluster: which server is the primary of now, asked at each new connection.

All keys of a queue have one hash tag, so on Cluster one slot and one primary hold the whole queue, and a plain
connection to it does. After a failover the old primary refuses (READONLY, MOVED), or is gone; the connection is then
made anew.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

ASK_SECONDS = 2.0
DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379}
NOT_PRIMARY = (ReadOnlyError, MovedError, ClusterDownError)

_URL = re.compile(r"(rediss?)\+(sentinel|cluster)://(?:(.*)@)?([^@/?]+)(?:/([^?]*))?(\?.*)?")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Seeds:
    """Addresses of Sentinels or of nodes of a Cluster. ``service``: the primary's name; "" on Cluster."""

    hosts: tuple[Address, ...]
    service: str


def split(url: str) -> tuple[str, Seeds | None]:
    """Return a URL as one server would have it, and the seeds, if there are any. Raises ValueError."""
    if "+" not in url.partition("://")[0]:
        return url, None
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError
    scheme, kind, user, hosts, path, options = (part or "" for part in found.groups())
    service, _, database = path.partition("/") if kind == "sentinel" else ("", "", path)
    if kind == "sentinel" and not service:
        raise ValueError
    seeds = Seeds(tuple(_address(host, DEFAULT_PORTS[kind]) for host in hosts.split(",")), service)
    user += "@" if user else ""
    return f"{scheme}://{user}{seeds.hosts[0][0]}/{database}{options}", seeds


@dataclass(frozen=True, slots=True)
class Search:
    """How to find the primary of one queue: whom to ask, with which kind of connection and options."""

    seeds: Seeds
    queue: str
    connection_class: type
    options: Mapping[str, Any]

    async def primary(self) -> Address:
        """Return the primary's address. Raises RedisConnectionError with what each of the seeds said."""
        said = []
        for host, port in self.seeds.hosts:
            client = self._client(host, port)
            try:
                found = await (self._by_sentinel(client) if self.seeds.service else self._by_cluster(client))
            except RedisError as error:
                said.append(f"{host}:{port}: {error}")
            else:
                if found:
                    return found[0] or host, found[1]
                said.append(f"{host}:{port} knows of none")
            finally:
                await client.aclose()
        raise RedisConnectionError(f"no primary found; {'; '.join(said)}")

    def _client(self, host: str, port: int) -> Any:
        options = {name: value for name, value in self.options.items() if name != "db"}
        if self.seeds.service:  # a Sentinel has users of its own, or none
            options = {k: v for k, v in options.items() if k not in {"username", "password", "credential_provider"}}
        ours = {"host": host, "port": port, "socket_timeout": ASK_SECONDS, "retry": Retry(NoBackoff(), 0)}
        pool = ConnectionPool(connection_class=self.connection_class, max_connections=1, **options | ours)
        return Redis.from_pool(pool)

    async def _by_sentinel(self, client: Any) -> Address | None:
        answer = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.seeds.service)
        return (answer[0].decode(), int(answer[1])) if answer else None

    async def _by_cluster(self, client: Any) -> Address | None:
        slot = key_slot(self.queue.encode())
        for first, last, (host, port, *_), *_ in await client.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return (host or b"").decode(), int(port)  # no host: the one that was asked
        return None


class Sought:
    """A connection, before its class in a list of bases, that looks for its server each time it is made."""

    host: str
    port: int

    def __init__(self, *, search: Search, **options: Any) -> None:
        super().__init__(**options)
        self._search = search

    async def _connect(self) -> None:
        connection: Any = super()
        self.host, self.port = await self._search.primary()
        await connection._connect()

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        connection: Any = super()
        try:
            return await connection.read_response(*arguments, **options)
        except NOT_PRIMARY as error:
            itself: Any = self
            await itself.disconnect()
            raise RedisConnectionError(f"{self.host}:{self.port} is not the primary any more: {error}") from error


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon else (text, default_port)
