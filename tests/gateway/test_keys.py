"""Keys: who may ask what, how much, until when; nobody sees what another tenant asked."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import openai
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from gsi.cli.keys import keys as commands
from gsi.client.gateway import open_api_keys
from gsi.jobs.api_keys import PREFIX, ApiKeys
from gsi.jobs.connection import connect
from tests.conftest import wait_until
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUESTION: list[Any] = [{"role": "user", "content": "5"}]
ONE: dict[str, Any] = {"gsi_n": 1}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(models: Models) -> AsyncIterator[Gateway]:
    """A gateway that asks for keys, and listens everywhere."""
    async with models.gateway("guarded", {"GSI_GATEWAY_KEYS": "true"}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keys(models: Models) -> AsyncIterator[ApiKeys]:
    async with open_api_keys(models.redis_url) as store:
        yield store


async def ask(gateway: Gateway, secret: str, **arguments: Any) -> Any:
    given = {"model": "gsi", "messages": QUESTION, "extra_body": ONE, **arguments}
    return await gateway.openai(secret).chat.completions.create(**given)


async def test_a_request_needs_a_key(guarded: Gateway, keys: ApiKeys) -> None:
    """None, a wrong one, an expired one and a revoked one are refused alike: 401."""
    async with guarded.http() as http:
        answer = await http.get("/v1/models")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    expired, _ = await keys.create("late", expires_at=int(time.time()) - 1)
    revoked, key = await keys.create("gone")
    assert (await ask(guarded, revoked)).choices[0].message.content == "5"
    await keys.revoke(key.id)
    for secret in ("gsi-wrong", expired, revoked, "x" * 10_000):
        with pytest.raises(openai.AuthenticationError):
            await ask(guarded, secret)


async def test_a_key_is_asked_for_before_the_body_is_looked_at(guarded: Gateway) -> None:
    """A stranger learns nothing of what is allowed."""
    async with guarded.http() as http:
        for path in ("/v1/chat/completions", "/v1/completions"):
            assert (await http.post(path, json={"model": 7})).status_code == 401


async def test_a_key_may_be_for_some_models(guarded: Gateway, keys: ApiKeys) -> None:
    """It sees no others, and is told 403 for them and 404 for what there is not."""
    secret, _ = await keys.create("some", models=("gsi:draft",))
    client = guarded.openai(secret)
    assert [model.id async for model in client.models.list()] == ["gsi:draft"]
    assert (await ask(guarded, secret, model="gsi:draft")).choices[0].message.content == "5"
    with pytest.raises(openai.PermissionDeniedError, match="this key may not ask gsi"):
        await ask(guarded, secret)
    with pytest.raises(openai.NotFoundError, match="allowed: gsi:draft"):
        await ask(guarded, secret, model="gsi:nothing")


async def test_requests_a_minute_are_limited(guarded: Gateway, keys: ApiKeys) -> None:
    """The headers count down, and 429 says when to come back; another key is not concerned."""
    secret, _ = await keys.create("few", requests_per_minute=2)
    other, _ = await keys.create("other", requests_per_minute=2)
    body = {"model": "gsi", "messages": QUESTION, **ONE}
    async with guarded.http(secret) as http:
        answers = [await http.post("/v1/chat/completions", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert (await ask(guarded, other)).choices[0].message.content == "5"


async def test_tokens_a_minute_are_limited(guarded: Gateway, keys: ApiKeys) -> None:
    """Those of all three models: the first answer uses them up, whatever its length, and the next waits."""
    secret, key = await keys.create("tokens", tokens_per_minute=5)
    answer = await ask(guarded, secret)
    with pytest.raises(openai.RateLimitError) as raised:
        await ask(guarded, secret)
    assert raised.value.response.headers["x-ratelimit-remaining-tokens"] == "0"
    usage = answer.usage
    spent = usage.prompt_tokens + sum(usage.gsi.values())
    assert [tokens for found, tokens in await keys.list() if found.id == key.id] == [spent]


async def test_a_budget_is_spent_once(guarded: Gateway, keys: ApiKeys) -> None:
    """Also by a stream; then the key is good for nothing more."""
    secret, _ = await keys.create("budget", budget_tokens=1)
    async for _ in await ask(guarded, secret, stream=True):
        pass
    with pytest.raises(openai.RateLimitError, match="has spent its budget of 1 tokens"):
        await ask(guarded, secret)


async def test_nobody_gets_the_answer_of_another_tenant(guarded: Gateway, keys: ApiKeys) -> None:
    """The same Idempotency-Key of two tenants is two jobs."""
    headers = {"Idempotency-Key": "shared"}
    jobs = []
    for tenant in ("a", "b", "a"):
        secret, _ = await keys.create(tenant, tenant=tenant)
        answer = await ask(guarded, secret, extra_headers=headers)
        jobs.append(answer.gsi["jobs"][0]["id"])
        assert (await guarded.jobs.result(jobs[-1])).fields["tenant"] == tenant
    assert jobs[0] == jobs[2] != jobs[1]


async def test_redis_holds_no_secret(keys: ApiKeys, models: Models) -> None:
    """Whoever reads it cannot ask with what is there."""
    secret, _ = await keys.create("hashed")
    async with aclosing(connect(models.redis_url)) as client:
        redis: Any = client
        held = [key async for key in redis.scan_iter(match=f"{PREFIX}key:*")]
        written = [value for key in held for value in (key, *(await redis.hgetall(key)).values())]
    assert held
    assert not [value for value in written if secret.encode() in value]


async def test_a_request_that_the_gateway_logs_names_the_key_by_its_id(guarded: Gateway, keys: ApiKeys) -> None:
    """And never its secret."""
    secret, key = await keys.create("logged")
    await ask(guarded, secret)

    async def is_logged() -> bool:
        return any(said["key"] == key.id for said in guarded.logged("request") if "key" in said)

    await wait_until(is_logged, "the request is logged")
    assert secret not in json.dumps([event for _, event in guarded.events])


async def test_the_command_makes_lists_and_revokes_keys(models: Models) -> None:
    """The secret is alone on standard output, so that a script can take it."""

    async def gsi(*arguments: str) -> Any:
        given = [*arguments, "--redis-url", models.redis_url]
        return await asyncio.to_thread(CliRunner().invoke, commands, given)

    made = await gsi("create", "by hand", "--tenant", "acme", "--model", "gsi", "--expires-in", "30d")
    assert made.stdout.startswith("gsi-")
    (found,) = [key for key in json.loads((await gsi("list", "--json")).stdout) if key["name"] == "by hand"]
    assert (found["tenant"], found["models"], found["spent_tokens"]) == ("acme", ["gsi"], 0)
    assert (await gsi("revoke", found["id"])).exit_code == 0
    again = await gsi("revoke", found["id"])
    assert (again.exit_code, "no key" in again.stderr) == (2, True)
    assert (await gsi("create", "x", "--expires-in", "soon")).exit_code == 2
    assert (await gsi("create", "x", "--tenant", "a b")).exit_code == 2
