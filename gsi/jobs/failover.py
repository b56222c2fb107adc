"""Sentinel and Cluster: connections that ask which server is the primary each time they are made.

All keys of a queue have one hash tag. So on Cluster one slot, and thus one primary, holds the whole queue, and a plain
connection to that primary serves it. After a failover the old primary refuses commands (READONLY, MOVED) or is gone;
the connection is closed then, and the next attempt of the same command connects to the new primary.
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

DISCOVERY_SECONDS = 2.0  # how long one seed node may take to answer
DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379}
NOT_PRIMARY = (ReadOnlyError, MovedError, ClusterDownError)
OF_ONE_SERVER = {"username", "password", "credential_provider"}  # a Sentinel has users of its own, or none

_URL = re.compile(r"(rediss?)\+(sentinel|cluster)://(?:(.*)@)?([^@/?]+)(?:/([^?]*))?(\?.*)?")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SeedNodes:
    """The Sentinels, or the nodes of a Cluster, that a URL names. ``service`` is the primary's name; "" on Cluster."""

    addresses: tuple[Address, ...]
    service: str


def parse_seed_nodes(url: str) -> tuple[str, SeedNodes | None]:
    """Return the URL of one server with the same options, and the seed nodes if the URL names any.

    Raises ValueError for a URL that cannot be read.
    """
    if "+" not in url.partition("://")[0]:
        return url, None
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError
    scheme, kind, user, hosts, path, options = (part or "" for part in found.groups())
    service, _, database = path.partition("/") if kind == "sentinel" else ("", "", path)
    if kind == "sentinel" and not service:
        raise ValueError
    seeds = SeedNodes(tuple(_parse_address(host, DEFAULT_PORTS[kind]) for host in hosts.split(",")), service)
    user += "@" if user else ""
    return f"{scheme}://{user}{seeds.addresses[0][0]}/{database}{options}", seeds


@dataclass(frozen=True, slots=True)
class PrimaryDiscovery:
    """Finds the primary of one queue: it asks the seed nodes, by connections of this class with these options."""

    seeds: SeedNodes
    queue: str
    connection_class: type
    options: Mapping[str, Any]

    async def find_primary(self) -> Address:
        """Return the primary's address. Raises RedisConnectionError with the answer of each seed node."""
        answers = []
        for host, port in self.seeds.addresses:
            client = self._connect(host, port)
            try:
                found = await (self._ask_sentinel(client) if self.seeds.service else self._ask_cluster(client))
            except RedisError as error:
                answers.append(f"{host}:{port}: {error}")
            else:
                if found:
                    return found[0] or host, found[1]
                answers.append(f"{host}:{port} knows of none")
            finally:
                await client.aclose()
        raise RedisConnectionError(f"no primary found; {'; '.join(answers)}")

    def _connect(self, host: str, port: int) -> Any:
        left_out = {"db"} | (OF_ONE_SERVER if self.seeds.service else set())
        options = {name: value for name, value in self.options.items() if name not in left_out}
        ours = {"host": host, "port": port, "socket_timeout": DISCOVERY_SECONDS, "retry": Retry(NoBackoff(), 0)}
        pool = ConnectionPool(connection_class=self.connection_class, max_connections=1, **options | ours)
        return Redis.from_pool(pool)

    async def _ask_sentinel(self, client: Any) -> Address | None:
        answer = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.seeds.service)
        return (answer[0].decode(), int(answer[1])) if answer else None

    async def _ask_cluster(self, client: Any) -> Address | None:
        slot = key_slot(self.queue.encode())
        for first, last, (host, port, *_), *_ in await client.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return (host or b"").decode(), int(port)  # no host: the node that was asked
        return None


class PrimaryConnection:
    """A connection to the primary of now. Stands before a connection class in a list of bases.

    ``_connect`` is the method that each connection class of redis-py fills in, and the only one that redis-py calls
    for every new socket: a command that is sent again connects without ``connect``. So redis-py's own
    SentinelManagedConnection, which asks in ``connect``, returns to the old primary with such a command.
    """

    host: str
    port: int

    def __init__(self, *, discovery: PrimaryDiscovery, **options: Any) -> None:
        super().__init__(**options)
        self._discovery = discovery

    async def _connect(self) -> None:
        connection: Any = super()
        self.host, self.port = await self._discovery.find_primary()
        await connection._connect()

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        connection: Any = super()
        try:
            return await connection.read_response(*arguments, **options)
        except NOT_PRIMARY as error:
            itself: Any = self
            await itself.disconnect()
            raise RedisConnectionError(f"{self.host}:{self.port} is not the primary any more: {error}") from error


def _parse_address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon else (text, default_port)
