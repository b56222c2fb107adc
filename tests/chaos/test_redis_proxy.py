"""The proxy between coordinators and Redis does to one command what its rule says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gsi.jobs.connection import Redis
from gsi.jobs.keys import Keys
from gsi.jobs.scripts import calls
from tests.chaos.redis_proxy import CommandFault, RedisProxy, SeededRule, name_of

HOLD_SECONDS = 0.6
TIMEOUT_SECONDS = 0.2


class Once:
    """A rule: the first command of a name meets a fault."""

    def __init__(self, name: str, fault: CommandFault) -> None:
        self._name = name
        self._fault = fault

    def __call__(self, name: str) -> CommandFault:
        if name != self._name:
            return CommandFault.NONE
        self._name = ""
        return self._fault


@asynccontextmanager
async def proxied(redis_url: str, rule: Once, *, retries: int = 0) -> AsyncIterator[Any]:
    """Yield a client that reaches the server through a proxy with a rule, and sends a command once by default."""
    address = redis_url.removeprefix("redis://").partition("/")[0]
    async with RedisProxy(address, delay_seconds=0.05, hold_seconds=HOLD_SECONDS, rule=rule) as proxy:
        retry = Retry(NoBackoff(), retries)
        client = Client.from_url(f"redis://{proxy.address}/0", socket_timeout=TIMEOUT_SECONDS, retry=retry)
        try:
            yield client
        finally:
            await client.aclose()


async def test_a_dropped_command_never_reaches_the_server(redis_url: str, redis: Any, queue: str) -> None:
    async with proxied(redis_url, Once("APPEND", CommandFault.COMMAND_DROPPED)) as client:
        with pytest.raises(RedisConnectionError):
            await client.append(queue, "x")
        assert await redis.get(queue) is None
        assert await client.append(queue, "x") == 1  # the next one passes


async def test_a_dropped_reply_leaves_the_command_done(redis_url: str, redis: Any, queue: str) -> None:
    async with proxied(redis_url, Once("APPEND", CommandFault.REPLY_DROPPED)) as client:
        with pytest.raises(RedisConnectionError):
            await client.append(queue, "x")
        assert await redis.get(queue) == b"x"


async def test_a_held_reply_outlasts_the_clients_patience(redis_url: str, redis: Any, queue: str) -> None:
    async with proxied(redis_url, Once("APPEND", CommandFault.REPLY_HELD)) as client:
        with pytest.raises(RedisTimeoutError):
            await client.append(queue, "x")
        assert await redis.get(queue) == b"x"


async def test_a_late_command_comes_after_the_one_that_was_sent_again(redis_url: str, redis: Any, queue: str) -> None:
    async with proxied(redis_url, Once("APPEND", CommandFault.COMMAND_LATE), retries=1) as client:
        assert await client.append(queue, "x") == 1  # by the second sending
        await client.set(queue, "newer")
        await asyncio.sleep(HOLD_SECONDS)
        assert await redis.get(queue) == b"newerx"


@pytest.mark.parametrize("fault", [CommandFault.COMMAND_DELAYED, CommandFault.REPLY_DELAYED])
async def test_commands_of_a_connection_keep_their_order(
    redis_url: str, redis: Any, queue: str, fault: CommandFault
) -> None:
    async with proxied(redis_url, Once("APPEND", fault)) as client:
        async with client.pipeline(transaction=False) as pipeline:
            for letter in "abc":
                pipeline.append(queue, letter)
            pipeline.hgetall(f"{queue}-none")
            pipeline.get(queue)
            assert await pipeline.execute() == [1, 2, 3, {}, b"abc"]
        assert await redis.get(queue) == b"abc"


async def test_a_script_is_known_by_its_name(redis_url: str, redis: Redis, queue: str) -> None:
    """Redis is told a sum in place of a script; the rule is asked about the script of that sum."""
    await calls.read_clock(redis, key=Keys(queue).config)  # the server knows the script
    async with proxied(redis_url, Once("read_clock", CommandFault.COMMAND_DROPPED)) as client:
        with pytest.raises(RedisConnectionError):
            await calls.read_clock(client, key=Keys(queue).config)
        assert await calls.read_clock(client, key=Keys(queue).config) > 0


def test_other_commands_have_their_own_name() -> None:
    assert name_of(b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n") == "GET"
    assert name_of(b"*1\r\n$4\r\nPING\r\n") == "PING"


def test_a_seed_gives_the_same_faults_whatever_comes_between() -> None:
    """The k-th TAKE meets the same fault, however many other commands pass before it."""
    rates = {CommandFault.COMMAND_DROPPED: 0.3, CommandFault.REPLY_HELD: 0.2}
    alone, among_others = SeededRule("7", rates), SeededRule("7", rates)
    faults = [alone("take") for _ in range(200)]
    mixed = [(among_others("GET"), among_others("take"))[1] for _ in range(200)]
    assert faults == mixed
    assert set(faults) == {CommandFault.NONE, *rates}
