"""The connection to Redis: time-outs, retries, credentials, TLS, and warnings about a server that may lose jobs."""

import asyncio
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gsi.errors import MisconfiguredError
from gsi.jobs.errors import LOST_CONNECTION, REFUSED, name_server
from gsi.jobs.failover import PrimaryConnection, PrimaryDiscovery, parse_seed_nodes
from gsi.runtime.tls import client_context, is_loopback

__all__ = [
    "LOST_CONNECTION",
    "MAX_CONNECTIONS",
    "REFUSED",
    "Redis",
    "RedisAccess",
    "RedisError",
    "connect",
    "connect_user",
    "durability_warnings",
    "is_exposed",
    "mask_url",
]

OLDEST_VERSION = (7, 0)
MAX_CONNECTIONS = 100
SOCKET_TIMEOUT_SECONDS = 10.0  # longer than the BLOCK of any command that we send


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """Files with secrets that a URL should not hold. Each new connection reads them again, so they may be replaced.

    ``tls_ca`` is the authority to trust; without it, the authorities of the system are trusted. The certificate and its
    key are shown to a server that asks for a certificate.
    """

    password_file: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Return the files that ``GSI_REDIS_PASSWORD_FILE``, ``GSI_REDIS_TLS_CA``, … name."""
        given = {field.name: environment.get(f"GSI_REDIS_{field.name.upper()}") for field in fields(cls)}
        return cls(**{name: Path(value) for name, value in given.items() if value})

    @property
    def has_tls(self) -> bool:
        return any((self.tls_ca, self.tls_cert, self.tls_key))


class _CancellableSend:
    """Sends within a time limit, and loses no cancellation.

    redis-py sends by ``asyncio.wait_for``. In Python 3.11 this may lose a cancellation that arrives as the sending
    ends, and a run whose lease was lost would continue.
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


class _PlainConnection(_CancellableSend, Connection):
    pass


class _UnixConnection(_CancellableSend, UnixDomainSocketConnection):
    pass


class _TlsConnection(_CancellableSend, SSLConnection):
    def __init__(self, *, access: RedisAccess, **options: Any) -> None:
        super().__init__(**options)
        if access.has_tls:
            self.ssl_context = _Context(access)


class _Context(RedisSSLContext):
    """Makes a context from the files for each connection. redis-py's own keeps one, and also trusts the system."""

    def __init__(self, access: RedisAccess) -> None:
        super().__init__()
        self._access = access

    def get(self) -> ssl.SSLContext:
        try:
            return client_context(self._access.tls_ca, self._access.tls_cert, self._access.tls_key)
        except MisconfiguredError as error:  # the files were good at the start
            raise RedisConnectionError(str(error)) from None


class _PasswordFile(CredentialProvider):
    """Reads the password from its file for each connection."""

    def __init__(self, path: Path, username: str | None) -> None:
        self._path = path
        self._username = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._path.read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8; its text would quote the file
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise RedisConnectionError(f"redis password file {self._path}: {reason}") from None
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class _PlainPrimaryConnection(PrimaryConnection, _PlainConnection):
    pass


class _TlsPrimaryConnection(PrimaryConnection, _TlsConnection):
    pass


CONNECTIONS: dict[type, type] = {
    Connection: _PlainConnection,
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _UnixConnection,
}
PRIMARY_CONNECTIONS: dict[type, type] = {
    _PlainConnection: _PlainPrimaryConnection,
    _TlsConnection: _TlsPrimaryConnection,
}


def connect(url: str, access: RedisAccess | None = None, queue: str = "default") -> Redis:
    """Return a client of the server at ``url``. It connects when it is first used, and retries for about 3 s.

    ``url`` may name Sentinels or nodes of a Cluster; on Cluster the client serves this ``queue`` alone.
    If all connections are in use, for example by many followers, a command waits for a free connection.
    Raises MisconfiguredError for a URL or files that cannot be used; its text has neither user nor password.
    """
    return Redis.from_pool(_make_pool(url, access, queue))


def connect_user(url: str, access: RedisAccess | None = None, queue: str = "default") -> Redis:
    """Return a client as ``connect`` does, whose errors name the server: those of ``gsi/jobs/errors.py``."""
    client: Any = _UserRedis.from_pool(_make_pool(url, access, queue))
    client.place = mask_url(url)
    made: Redis = client
    return made


def _make_pool(url: str, access: RedisAccess | None, queue: str) -> BlockingConnectionPool:
    ours = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": None,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=6),
        "health_check_interval": 15,
    }
    return BlockingConnectionPool(**ours | _pool_options(url, access or RedisAccess(), queue))


class _UserPipeline(Pipeline):
    place = ""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        with name_server(self.place):
            return await super().execute(raise_on_error)


class _UserRedis(Redis):
    """Every command passes through ``execute_command`` or a pipeline, so errors are translated in these two places."""

    place = ""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        with name_server(self.place):
            command: Any = super()  # redis-py declares no types here
            return await command.execute_command(*arguments, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        made = _UserPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.place = self.place
        return made


def mask_url(url: str) -> str:
    """Return a URL for people to read: scheme, host, port and database, without user, password and options."""
    scheme, colon, rest = url.partition("://")
    place, _, options = rest.partition("?")
    _, at, place = place.rpartition("@")
    if not colon or not re.fullmatch(r"[\w+]+", scheme) or not _PLACE.fullmatch(place) or "@" in options:
        return "***"  # a password with characters that a URL cannot hold may stand anywhere
    return f"{scheme}://{'***@' if at else ''}{place}"


def is_exposed(url: str) -> bool:
    """Return whether the traffic to this server can be read on a network: it has no TLS and leaves this machine."""
    node, seeds = parse_seed_nodes(url)
    options: dict[str, Any] = dict(parse_url(node))
    hosts = [host for host, _ in seeds.addresses] if seeds else [options.get("host", "localhost")]
    return "connection_class" not in options and not all(is_loopback(f"{host}:0") for host in hosts)


_HOST = r"(\[[\da-fA-F:.]+\]|[\w.-]*)(:\d{1,5})?"
_PLACE = re.compile(rf"{_HOST}(,{_HOST})*(/[\w./-]*)?")  # servers, then a database, a socket's path, or a service


def _pool_options(url: str, access: RedisAccess, queue: str) -> dict[str, Any]:
    """Return the pool's options for a URL and files. Raises MisconfiguredError."""
    try:
        node, seeds = parse_seed_nodes(url)
        options: dict[str, Any] = dict(parse_url(node))
    except ValueError:  # its text may quote the password
        allowed = "redis://user:password@host:6379/0, rediss://…, unix://…, redis+sentinel://…, redis+cluster://…"
        raise MisconfiguredError(f"redis url: {mask_url(url)} cannot be read; allowed: {allowed}") from None
    kind = options.get("connection_class", Connection)
    options["connection_class"] = CONNECTIONS[kind]
    if kind is SSLConnection:
        options["access"] = access
    if access.has_tls:
        if kind is not SSLConnection:
            raise MisconfiguredError(
                f"redis url: {mask_url(url)} has no TLS, and certificates are given; use rediss://"
            )
        client_context(access.tls_ca, access.tls_cert, access.tls_key)
    if access.password_file:
        options["credential_provider"] = _pop_credentials(options, access.password_file)
    if seeds is not None:
        plain = options.pop("connection_class")
        options["discovery"] = PrimaryDiscovery(seeds, queue, plain, dict(options))
        options["connection_class"] = PRIMARY_CONNECTIONS[plain]
    return options


def _pop_credentials(options: dict[str, Any], path: Path) -> CredentialProvider:
    """Take the user out of the options; return a provider of it and of the file's password.

    Raises MisconfiguredError for a second password and for a file that cannot be read.
    """
    if options.pop("password", None):
        raise MisconfiguredError(f"redis password: given twice, in the URL and in {path}")
    provider = _PasswordFile(path, options.pop("username", None))
    try:
        provider.get_credentials()
    except RedisConnectionError as error:
        raise MisconfiguredError(str(error)) from None
    return provider


async def durability_warnings(redis: Redis) -> list[str]:
    """Return a sentence for each setting by which this server can lose jobs.

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
