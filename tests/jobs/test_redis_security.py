"""Redis users with few rights, passwords in files, TLS, and a URL whose password no error shows."""

import asyncio
import re
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gsi.client.sdk import AsyncClient
from gsi.errors import MisconfiguredError
from gsi.jobs.admin import QueueAdmin
from gsi.jobs.connection import (
    LOST_CONNECTION,
    REFUSED,
    Redis,
    RedisAccess,
    RedisError,
    connect,
    durability_warnings,
    is_exposed,
    mask_url,
)
from gsi.jobs.keys import Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobWriter
from gsi.local.embedded_redis import embedded_redis
from tests.certificates import DAY, Authority, Paths
from tests.jobs.sample import DONE, JOB, renew, step, take

ROOT = Path(__file__).parents[2]
RIGHTS = dict(re.findall(r"^user (gsi-\w+) (.+)$", (ROOT / "docs" / "redis.md").read_text(), re.MULTILINE))
KEYS = Keys("default")
OTHER = Keys("other")
PASSWORD = "hunter2"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server at host:port with the users of docs/redis.md."""
    with embedded_redis() as url:
        yield url.removeprefix("redis://").removesuffix("/0")


@pytest.fixture
async def root(server: str) -> AsyncIterator[Any]:
    """The server's owner, after a reset to the initial state."""
    redis: Any = connect(f"redis://{server}/0")
    await redis.flushall()
    for user, rights in RIGHTS.items():
        await redis.execute_command("ACL", "SETUSER", user, "reset", *rights.replace("change-me", PASSWORD).split())
    await redis.execute_command("ACL", "LOG", "RESET")
    yield redis
    await redis.aclose()


@asynccontextmanager
async def connected(server: str, user: str, password: str = PASSWORD) -> AsyncIterator[Any]:
    redis = connect(f"redis://{user}:{password}@{server}/0")
    yield redis
    await redis.aclose()


async def denials(root: Any) -> list[str]:
    """Return the commands that the server has refused since the test began."""
    return [f"{entry['username']}: {entry['object']}" for entry in await root.acl_log()]


async def work_through(redis: Redis, client: AsyncClient) -> None:
    """Do all that a coordinator does, with a job that dies, is revived, is handed back, and finishes."""
    writer, stream = JobWriter(redis, KEYS, Policy(max_attempts=2)), JobStream(redis, KEYS, "worker-1")
    await durability_warnings(redis)
    await stream.create_group()
    await client.submit(JOB.payload.model_copy(update={"id": JOB.id, "idempotency_key": "once"}))
    for _ in range(2):
        await writer.promote_due()
        await writer.retry(await take(writer, stream), "it was full", delay_seconds=0)
    assert [letter.job_id async for letter in client.dead.letters()] == [JOB.id]
    await client.dead.retry(JOB.id)
    lease = await take(writer, stream)
    assert (await renew(writer, lease)).is_held
    await writer.append_step(lease, step(0))
    assert await writer.hand_back(lease, lease_ms=1000)
    (delivery,) = await stream.take_over(count=1, min_idle_ms=500)
    lease = await writer.take(JOB.id, delivery) or lease
    await writer.unpark_all()
    assert (await stream.backlog()).pending == 1
    assert (await stream.ages()).lease_seconds < 60
    assert (await JobReader(redis, KEYS).set_aside()).dead == 0
    await writer.commit(lease, DONE)


async def test_the_documented_rights_are_enough(server: str, root: Any) -> None:
    """A coordinator, a client and an operator do all that they can do, and the server refuses nothing."""
    url = f"redis://gsi-client:{PASSWORD}@{server}/0"
    async with (
        connected(server, "gsi-coordinator") as coordinator,
        connected(server, "gsi-operator") as operator,
        AsyncClient(url, access=RedisAccess()) as client,
    ):
        await work_through(coordinator, client)
        assert [record.index async for record in client.follow(JOB.id)] == [0]
        assert (await client.wait(JOB.id)).state is JobState.SUCCEEDED
        assert await client.is_served()
        assert await client.forget(JOB.id)
        cancelled = await client.submit({"prompt": "2 + 3"})
        assert await client.cancel(cancelled, "not needed") is JobState.QUEUED
        assert await client.dead.purge() == 0
        queue = QueueAdmin(operator, KEYS)
        await queue.create()
        await queue.pause()
        await queue.limit(10)
        await queue.resume()
        assert (await queue.stats()).is_paused is False
    assert await denials(root) == []


COMMANDS = [
    ("gsi-client", f"XREADGROUP GROUP coordinators me STREAMS {KEYS.jobs} >"),
    ("gsi-client", "SCAN 0"),
    ("gsi-coordinator", "SCAN 0"),
    *((user, command) for user in RIGHTS for command in ("KEYS *", "FLUSHALL", "CONFIG GET requirepass", "ACL WHOAMI")),
    *((user, command) for user in RIGHTS for command in ("SUBSCRIBE news", f"HGETALL {OTHER.record('job-1')}")),
    *((user, f"XADD {OTHER.jobs} * job {{}}") for user in RIGHTS),
]


@pytest.mark.parametrize(("user", "command"), COMMANDS)
async def test_the_documented_rights_are_no_more_than_that(server: str, root: Any, user: str, command: str) -> None:
    """No user reads or writes another queue, reads the server's own data, or has another role's rights."""
    async with connected(server, user) as redis:
        with pytest.raises(REFUSED):
            await redis.execute_command(*command.split())


@pytest.mark.parametrize("user", RIGHTS)
async def test_no_script_reads_another_queue(server: str, root: Any, user: str) -> None:
    """The rights hold inside a script as well, whatever keys the script declares."""
    async with connected(server, user) as redis:
        with pytest.raises(RedisError, match=r"can't|permission"):
            await redis.eval("return redis.call('HGETALL', ARGV[1])", 1, KEYS.jobs, OTHER.record("job-1"))


async def test_every_command_of_a_script_is_among_the_rights(server: str, root: Any) -> None:
    """A script that begins to use another command fails here, not on somebody's server."""
    sources = "".join(path.read_text() for path in (ROOT / "gsi" / "jobs").rglob("*.lua"))
    used = {command.lower() for command in re.findall(r"redis\.call\('(\w+)'", sources)}
    assert len(used) > 20
    for user, rights in RIGHTS.items():
        if user == "gsi-exporter":  # it only reads; tests/services/test_exporter.py has it do all that it does
            continue
        words = [word.removeprefix("+") for word in rights.split() if word.startswith("+")]
        allowed = {word.partition("|")[0] for word in words if not word.startswith("@")}
        for category in (word.removeprefix("@") for word in words if word.startswith("@")):
            allowed |= {name.decode().partition("|")[0] for name in await root.execute_command("ACL", "CAT", category)}
        of_coordinators = {"xack", "xclaim", "xgroup", "xpending"} if user != "gsi-coordinator" else set()
        assert used - allowed - of_coordinators == set()


async def test_a_password_comes_from_a_file_and_may_be_changed(server: str, root: Any, tmp_path: Path) -> None:
    """A new connection reads it again."""
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    redis: Any = connect(f"redis://gsi-client@{server}/0", RedisAccess(password_file=path))
    assert await redis.ping()
    await root.execute_command("ACL", "SETUSER", "gsi-client", "resetpass", ">another")
    path.write_text("another")
    await redis.connection_pool.disconnect()
    assert await redis.ping()
    path.unlink()
    await redis.connection_pool.disconnect()
    with pytest.raises(LOST_CONNECTION, match=f"redis password file {path}: No such file or directory"):
        await redis.ping()
    await redis.aclose()


async def test_a_wrong_password_is_refused_without_being_told(server: str, root: Any) -> None:
    """The error is the server's, and contains neither password nor user."""
    async with connected(server, "gsi-client", "wrong-secret") as redis:
        with pytest.raises(REFUSED) as refused:
            await redis.ping()
    assert "wrong-secret" not in f"{refused.value!r} {redis!r}"


# --- TLS -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tls_in_front_of(server: str, paths: Paths) -> AsyncIterator[str]:
    """Yield host:port of a proxy that ends TLS, since the embedded server has none; clients must show certificates."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=paths.authority)
    context.load_cert_chain(paths.chain, paths.key)
    context.verify_mode = ssl.CERT_REQUIRED
    host, _, port = server.partition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server, from_server = writer, reader
        from_server, to_server = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))

    proxy = await asyncio.start_server(serve, "127.0.0.1", ssl=context)
    yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    proxy.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()


def access_of(paths: Paths) -> RedisAccess:
    return RedisAccess(tls_ca=paths.authority, tls_cert=paths.chain, tls_key=paths.key)


async def test_tls_with_a_certificate_that_may_be_renewed(server: str, root: Any, tmp_path: Path) -> None:
    """User, password and client certificate over TLS; a new connection shows the new certificate."""
    authority = Authority(tmp_path)
    paths = authority.issue("client")
    async with tls_in_front_of(server, authority.issue("redis")) as address:
        redis: Any = connect(f"rediss://gsi-client:{PASSWORD}@{address}/0", access_of(paths))
        assert await redis.ping()
        paths.replace_by(Authority(tmp_path).issue("stranger"))
        await redis.connection_pool.disconnect()
        with pytest.raises(LOST_CONNECTION):
            await redis.ping()
        paths.replace_by(authority.issue("client"))
        assert await redis.ping()
        await redis.aclose()


async def test_tls_that_is_not_trusted_is_refused(server: str, root: Any, tmp_path: Path) -> None:
    """Neither side accepts an unknown authority, an expired certificate, or no certificate."""
    ours, other = Authority(tmp_path), Authority(tmp_path)
    good = access_of(ours.issue("client"))

    async def refusal(paths: Paths, access: RedisAccess) -> str:
        async with tls_in_front_of(server, paths) as address:
            redis: Any = connect(f"rediss://gsi-client:{PASSWORD}@{address}/0", access)
            with pytest.raises(LOST_CONNECTION) as refused:
                await redis.ping()
            await redis.aclose()
        return str(refused.value)

    foreign, expired, unknown, nameless = await asyncio.gather(
        refusal(other.issue("redis"), good),
        refusal(ours.issue("redis", ends_in=-DAY), good),
        refusal(ours.issue("redis"), RedisAccess()),
        refusal(ours.issue("redis"), RedisAccess(tls_ca=ours.path)),
    )
    assert "certificate verify failed" in foreign
    assert "certificate has expired" in expired
    assert "certificate verify failed" in unknown  # to the system's authorities
    assert PASSWORD not in foreign + expired + unknown + nameless


# --- What is refused before a connection is made, and what people read ----------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:hunter2@[::1]:6379/1", "rediss://***@[::1]:6379/1"),
        ("redis://:hun/hunter2@host:6379", "redis://***@host:6379"),
        ("redis://:hunter2@hunter2@host", "redis://***@host"),
        ("redis://host?password=hunter2", "redis://host"),
        ("redis://host?password=a@hunter2", "***"),
        ("redis://user:hunter2?@host", "***"),
        ("unix://user:hunter2@/run/redis.sock?db=0", "unix://***@/run/redis.sock"),
        ("http://user:hunter2@host", "http://***@host"),
        ("hunter2", "***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """The error about a URL that cannot be read does not contain it either: people copy such errors."""
    assert mask_url(url) == shown
    refusal = refusal_of(url)
    assert "hunter2" not in refusal
    assert refusal == "" or f"redis url: {shown} cannot be read" in refusal


def refusal_of(url: str) -> str:
    """Return the error about a URL, or nothing if it can be read."""
    try:
        connect(url)
    except MisconfiguredError as error:
        return "".join(traceback.format_exception(error))
    return ""


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    """They are refused at the start, before anything is sent."""
    absent, binary = tmp_path / "absent", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    refused: list[tuple[str, RedisAccess, str]] = [
        ("redis://user:hunter2@host", RedisAccess(password_file=absent), "password: given twice, in the URL and in"),
        ("redis://user@host", RedisAccess(password_file=absent), f"file {absent}: No such file or directory"),
        ("redis://user@host", RedisAccess(password_file=binary), f"file {binary}: it is not text"),
        ("redis://:hunter2@host", RedisAccess(tls_ca=absent), r"redis://\*\*\*@host has no TLS"),
        ("rediss://host", RedisAccess(tls_ca=absent), f"authority {absent}: No such file or directory"),
        ("rediss://host", RedisAccess(tls_key=absent), f"key {absent} is given without its certificate"),
    ]
    for url, access, sentence in refused:
        with pytest.raises(MisconfiguredError, match=sentence):
            connect(url, access)


def test_a_client_reads_the_environment() -> None:
    """It reads the variables that docs/settings.md names."""
    environment = {
        "GSI_REDIS_PASSWORD_FILE": "p",
        "GSI_REDIS_TLS_CA": "a",
        "GSI_REDIS_TLS_CERT": "",
        "GSI_REDIS_URL": "u",
    }
    assert RedisAccess.from_environment(environment) == RedisAccess(password_file=Path("p"), tls_ca=Path("a"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis.example", True),
        ("redis://10.0.0.7:6379", True),
        ("redis://[::1]:6379", False),
        ("redis://", False),
        ("rediss://redis.example", False),
        ("unix:///run/redis.sock", False),
    ],
)
def test_plain_text_beyond_this_machine_is_known(url: str, expected: bool) -> None:
    """The coordinator warns about it."""
    assert is_exposed(url) is expected
