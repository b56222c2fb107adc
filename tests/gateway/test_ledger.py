"""No tokens of a key are free, and none are counted twice: whoever answers, whoever leaves, whatever is killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import openai
import pytest
import pytest_asyncio

from gsi.client.gateway import open_api_keys
from gsi.jobs.accounts import OpenAccounts
from gsi.jobs.api_keys import TAG, ApiKeys, digest_of
from gsi.jobs.connection import Redis, connect
from gsi.jobs.reader import JobRecord
from services.gateway.tokens import Tokens
from tests.conftest import wait_until
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLOW = "One. |~Two. |~Three. |~Four."


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keys(models: Models) -> AsyncIterator[ApiKeys]:
    async with open_api_keys(models.redis_url) as store:
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def redis(models: Models) -> AsyncIterator[Redis]:
    async with aclosing(connect(models.redis_url, queue=TAG)) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def counting(models: Models) -> AsyncIterator[Gateway]:
    """A gateway that asks for keys."""
    async with models.gateway("counting", {"GSI_GATEWAY_KEYS": "true"}) as running:
        yield running


async def spent(keys: ApiKeys, secret: str) -> int:
    found = await keys.find(secret)
    assert found is not None
    return found[1]


async def wait_until_spent(keys: ApiKeys, secret: str, record: JobRecord) -> None:
    """Wait until a key has spent the tokens of one job."""

    async def is_counted() -> bool:
        return await spent(keys, secret) > 0

    await wait_until(is_counted, "the tokens are counted")
    assert await spent(keys, secret) == Tokens.of(record).total


async def start_and_leave(gateway: Gateway, secret: str, **options: Any) -> str:
    """Read the first step of a stream, and leave it; return its job."""
    messages: list[Any] = [{"role": "user", "content": SLOW}]
    stream = await gateway.openai(secret).chat.completions.create(
        model="gsi", messages=messages, stream=True, extra_body={"gsi": {"n": 1, "steps": True, **options}}
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    return f"{chunk.id.removeprefix('chatcmpl-')}-0"


@pytest.mark.parametrize("keep", [True, False])
async def test_the_tokens_of_a_client_that_left_are_counted_when_its_job_has_ended(
    counting: Gateway, keys: ApiKeys, keep: bool
) -> None:
    """Those of all its steps, whether it was kept or cancelled."""
    secret, _ = await keys.create("leaves")
    job_id = await start_and_leave(counting, secret, keep=keep)
    record = await counting.jobs.wait(job_id, 20)
    assert record.has_succeeded == keep
    await wait_until_spent(keys, secret, record)


async def test_a_repeated_request_is_counted_once(counting: Gateway, keys: ApiKeys) -> None:
    """Its answer says what the job has used all the same."""
    secret, _ = await keys.create("repeats")
    messages: list[Any] = [{"role": "user", "content": "5"}]
    answers: list[Any] = [
        await counting.openai(secret).chat.completions.create(
            model="gsi", messages=messages, extra_body={"gsi_n": 1}, extra_headers={"Idempotency-Key": "counted"}
        )
        for _ in range(2)
    ]
    assert answers[0].usage == answers[1].usage
    record = await counting.jobs.result(answers[0].gsi["jobs"][0]["id"])
    assert await spent(keys, secret) == Tokens.of(record).total


async def test_the_tokens_of_a_killed_gateway_are_counted_by_the_next_one(models: Models, keys: ApiKeys) -> None:
    """Of a kept job, of a response in the background and of a stream, whose client loses its connection. Each once."""
    async with models.gateway("killed", {"GSI_GATEWAY_KEYS": "true"}) as gateway:
        kept, background, streamed = [(await keys.create(name))[0] for name in ("kept", "background", "streamed")]
        jobs = {kept: await start_and_leave(gateway, kept, keep=True)}
        made: Any = await gateway.openai(background).responses.create(
            model="gsi", input=SLOW, background=True, extra_body={"gsi_n": 1}
        )
        jobs[background] = made.gsi["job"]
        messages: list[Any] = [{"role": "user", "content": SLOW}]
        stream = await gateway.openai(streamed).chat.completions.create(
            model="gsi", messages=messages, stream=True, extra_body={"gsi_n": 1}
        )
        jobs[streamed] = f"{(await anext(aiter(stream))).id.removeprefix('chatcmpl-')}-0"
        os.kill(gateway.process.pid, signal.SIGKILL)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
        for secret, job_id in jobs.items():
            record = await gateway.jobs.wait(job_id, 20)
            await wait_until_spent(keys, secret, record)


async def test_two_that_settle_count_once(redis: Redis, keys: ApiKeys) -> None:
    """Whichever comes first; a key that was revoked meanwhile is not made again."""
    secret, key = await keys.create("settled")
    digest = digest_of(secret)
    lost, first, second = (OpenAccounts(redis, name) for name in ("lost", "first", "second"))
    await lost.open("request", "account")
    assert ("lost", "request", "account") in await first.abandoned()
    counted = await asyncio.gather(*(each.settle("lost", "request", digest, 7) for each in (first, second)))
    assert sorted(counted) == [False, True]
    assert await spent(keys, secret) == 7
    await lost.open("request", "account")
    await keys.revoke(key.id)
    assert await first.settle("lost", "request", digest, 7)
    assert await keys.find(secret) is None
    assert not await first.abandoned()


async def test_the_accounts_of_a_gateway_that_lives_are_its_own(redis: Redis) -> None:
    """Until it stops, or has not said for a while that it lives."""
    living, other = OpenAccounts(redis, "living"), OpenAccounts(redis, "other")
    await living.live(60)
    await living.open("request", "account")
    assert not [found for found in await other.abandoned() if found[0] == "living"]
    await living.die()
    assert ("living", "request", "account") in await other.abandoned()
    await living.settle("living", "request", "0", 0)
