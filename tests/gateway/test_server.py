"""Around the completions: probes, limits, error forms, presets, metrics, and a gateway that is told to stop."""

import asyncio
import json
import re
import ssl
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gsi.jobs.connection import connect
from gsi.local.embedded_redis import embedded_redis
from tests.certificates import Authority
from tests.conftest import wait_until
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")

BODY = {"model": "gsi", "messages": [{"role": "user", "content": "5"}], "gsi_n": 1}
PRESETS = """
[models.fast]
params = { method = "draft" }

[models.thinker]
params = { n = 1 }
"""


async def test_probes_say_whether_it_lives_and_is_ready(gateway: Gateway) -> None:
    """Without a key, and without a line in the log."""
    async with gateway.http() as http:
        assert [(await http.get(path)).status_code for path in ("/health", "/ready")] == [200, 200]
    assert not [said for said in gateway.logged("request") if said["route"] == "/ready"]


async def test_a_head_is_a_get_without_its_body(gateway: Gateway) -> None:
    """Load balancers ask so; a route that only takes POST has none."""
    async with gateway.http() as http:
        for path, status in (("/health", 200), ("/v1/models", 200), ("/v1/models/none", 404)):
            answer, whole = await http.head(path), await http.get(path)
            assert (answer.status_code, answer.content) == (status, b"")
            assert answer.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))
        refused = await http.head("/v1/completions")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_body_has_a_limit(gateway: Gateway) -> None:
    """Also one whose length is not told."""
    long = b"x" * (5 * 2**20 + 1)

    async def parts() -> Any:
        yield long

    async with gateway.http() as http:
        answers = [await http.post("/v1/completions", content=content) for content in (long, parts())]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(413, "body_too_large")] * 2


async def test_headers_have_a_limit(gateway: Gateway) -> None:
    """32 KiB with the request's line."""
    async with gateway.http() as http:
        answer = await http.get("/health", headers={"x-long": "x" * 100_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "message"),
    [
        ("POST", "/v1/chat/completions", "{", 400, "the body is not a JSON object"),
        ("POST", "/v1/chat/completions", '{"model": "gsi"}', 400, "messages: field required"),
        ("POST", "/v1/completions", '{"model": "gsi", "prompt": []}', 400, "prompt: empty"),
        ("GET", "/v1/chat/completions", None, 405, "GET /v1/chat/completions: Method Not Allowed"),
        ("GET", "/v2", None, 404, "GET /v2: Not Found"),
        ("GET", "/v1/models/none", None, 404, "model: no model none"),
    ],
)
async def test_every_error_has_openais_form(
    gateway: Gateway, method: str, path: str, content: str | None, status: int, message: str
) -> None:
    """Whoever finds the fault."""
    async with gateway.http() as http:
        answer = await http.request(method, path, content=content, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["message"][: len(message)], set(error)) == (
        status,
        message,
        {"message", "type", "param", "code"},
    )


async def test_a_full_queue_says_when_to_come_back(gateway: Gateway) -> None:
    """Clients wait as long as Retry-After says."""
    await gateway.jobs.admin.pause()
    await gateway.jobs.admin.limit(1)
    waiting = await gateway.jobs.submit({"prompt": "waits"})
    try:
        async with gateway.http() as http:
            answer = await http.post("/v1/chat/completions", json=BODY)
    finally:
        await gateway.jobs.admin.limit(None)
        await gateway.jobs.cancel(waiting, "the test is over")
        await gateway.jobs.admin.resume()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_job_that_an_operator_cancels_is_a_conflict(gateway: Gateway) -> None:
    """And its client is told not to ask again by itself."""
    await gateway.jobs.admin.pause()
    try:
        async with gateway.http() as http:
            asking = asyncio.create_task(
                http.post("/v1/chat/completions", json={**BODY, "gsi_keep": True}, headers={"idempotency-key": "c"})
            )
            job_id = ""

            async def is_queued() -> bool:
                nonlocal job_id
                payload = {"prompt": "-", "idempotency_key": "c:0"}
                job_id = await gateway.jobs.submit(payload)
                return True

            await asyncio.sleep(0.3)
            await wait_until(is_queued, "the job is queued")
            await gateway.jobs.cancel(job_id, "by hand")
            answer = await asking
    finally:
        await gateway.jobs.admin.resume()
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_cancelled")
    assert answer.headers["x-should-retry"] == "false"


async def test_one_connection_too_many_is_told_so_in_openais_form(models: Models) -> None:
    """With the time to come back; the probe of life still answers, and a place that becomes free is taken."""
    async with models.gateway("narrow", {"GSI_GATEWAY_MAX_CONNECTIONS": "1"}) as gateway:
        async with gateway.http() as first:
            assert (await first.get("/v1/models")).status_code == 200  # and stays connected
            async with gateway.http() as second:
                refused = await second.post("/v1/chat/completions", json=BODY)
                alive = await second.get("/health")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_connections")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert alive.status_code == 200

        async def has_room() -> bool:
            async with gateway.http() as later:
                return (await later.get("/v1/models")).status_code == 200

        await wait_until(has_room, "a connection is taken again")


async def test_metrics_count_requests_and_tokens(gateway: Gateway) -> None:
    """On the address of all metrics, which is not that of requests."""
    async with gateway.http() as http:
        await http.post("/v1/chat/completions", json=BODY)
        series = (await http.get(gateway.metrics_url)).text
    assert 'gsi_gateway_requests_total{route="/v1/chat/completions",status="200"}' in series
    assert 'gsi_gateway_tokens_total{role="prm"}' in series


async def test_presets_other_origins_and_a_stop(models: Models, tmp_path: Path) -> None:
    """One more gateway: models of a file, CORS for one origin, and streams that outlive SIGTERM."""
    presets = tmp_path / "presets.toml"
    presets.write_text(PRESETS)
    settings = {"GSI_GATEWAY_PRESETS": str(presets), "GSI_GATEWAY_CORS_ORIGINS": "https://app.example"}
    async with models.gateway("presets", settings) as gateway:
        client = gateway.openai()
        assert [model.id async for model in client.models.list()] == ["fast", "thinker"]
        messages: list[Any] = [{"role": "user", "content": "<think>2 + 3|</think>5"}]
        answer: Any = await client.chat.completions.create(model="thinker", messages=messages)
        assert (answer.choices[0].message.reasoning_content, answer.choices[0].message.content) == ("2 + 3", "5")
        chunks: list[Any] = [
            chunk.choices[0].delta
            async for chunk in await client.chat.completions.create(model="thinker", messages=messages, stream=True)
        ]
        assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in chunks) == "2 + 3"
        assert "".join(delta.content or "" for delta in chunks) == "5"
        async with gateway.http() as http:
            for origin, allowed in (("https://app.example", "https://app.example"), ("https://evil.example", None)):
                headers = {"origin": origin, "access-control-request-method": "POST"}
                preflight = await http.options("/v1/chat/completions", headers=headers)
                assert preflight.headers.get("access-control-allow-origin") == allowed
        slow: list[Any] = [{"role": "user", "content": "One. |~Two. |~Three."}]
        stream = await client.chat.completions.create(model="fast", messages=slow, stream=True)
        first = await anext(aiter(stream))
        assert first.choices[0].delta.role == "assistant"
        stopping = asyncio.create_task(gateway.process.stop())
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(texts) == "One. Two. Three."
        await stopping
        with pytest.raises(openai.APIConnectionError):
            await client.models.list()


async def test_a_page_of_another_site_cannot_ask(gateway: Gateway) -> None:
    """Neither by a name of its own that leads to this machine, nor by a form, which no browser asks about first."""
    async with gateway.http() as http:
        foreign = await http.get("/v1/models", headers={"host": "evil.example:8000"})
        own = [
            await http.get("/v1/models", headers={"host": host}) for host in ("localhost", "localhost:80", "[::1]:1")
        ]
        form = await http.post("/v1/chat/completions", content=json.dumps(BODY), headers={"content-type": "text/plain"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "host_not_allowed")
    assert [answer.status_code for answer in own] == [200] * 3
    assert form.status_code == 400


async def test_without_redis_it_says_so_and_comes_back(models: Models, tmp_path: Path) -> None:
    """503 within the time that a connection is tried again, and not ready; then as before, without a restart."""
    with embedded_redis() as url:
        settings = {"GSI_GATEWAY_REDIS_URL": url}
        async with (
            models.gateway("lonely", settings) as gateway,
            aclosing(connect(url)) as client,
            gateway.http() as http,
        ):
            redis: Any = client
            await redis.config_set("maxclients", 1)  # the server takes no new connection, and has cut the old ones
            await redis.client_kill_filter(_type="normal", skipme=True)

            async def is_not_ready() -> bool:
                return (await http.get("/ready")).status_code == 503

            await wait_until(is_not_ready, "the gateway is not ready")
            answer = await http.post("/v1/chat/completions", json=BODY)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "redis_unavailable")
            await redis.config_set("maxclients", 1000)

            async def is_ready() -> bool:
                return (await http.get("/ready")).status_code == 200

            await wait_until(is_ready, "the gateway is ready")


async def test_the_page_of_the_api_loads_nothing_from_another_host(gateway: Gateway) -> None:
    """Its scripts are files of this gateway, and its policy allows no others."""
    async with gateway.http() as http:
        page = await http.get("/docs")
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert [place for place in loaded if place.startswith("docs/")] == [
            place for place in loaded if place != "data:,"
        ]
        answers = [page, *[await http.get(f"/{place}") for place in loaded if place != "data:,"]]
        described = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs/core.py")).status_code == 404
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [len(answer.content) > 100_000 for answer in answers] == [False, True, True, False]
    for answer in answers:
        assert "default-src 'none'; script-src 'self';" in answer.headers["content-security-policy"]
    assert "/v1/chat/completions" in described["paths"]
    assert "/docs" not in described["paths"]


async def test_cors_is_off_unless_set(gateway: Gateway) -> None:
    """No other site's page may read an answer."""
    async with gateway.http() as http:
        answer = await http.get("/health", headers={"origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GSI_GATEWAY_LISTEN": "0.0.0.0:0"}, "GSI_GATEWAY_LISTEN: 0.0.0.0:0 is not loopback, and anybody there could"),
        ({"GSI_GATEWAY_PRESETS": "/no/such.toml"}, "presets /no/such.toml: "),
        ({"GSI_GATEWAY_REDIS_URL": "http://x"}, "redis url: "),
    ],
)
async def test_what_it_cannot_start_with_is_said(settings: dict[str, str], said: str) -> None:
    """In one line, which names the setting or the file."""
    command = [sys.executable, "-m", "services.gateway"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "GSI_GATEWAY_LISTEN": "127.0.0.1:0", **settings}
    ended = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode in {1, 78}
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_https_is_for_clients_with_a_certificate(models: Models, tmp_path: Path) -> None:
    """Of the authority that the settings name, as between all processes."""
    authority = Authority(tmp_path)
    own, client = authority.issue("gateway"), authority.issue("client")
    async with models.gateway("https", own.settings("GSI_GATEWAY_")) as gateway:
        url = gateway.url.replace("http://", "https://")
        trusting = ssl.create_default_context(cafile=authority.path)
        async with httpx.AsyncClient(verify=trusting, trust_env=False) as http:
            with pytest.raises(httpx.TransportError):
                await http.get(f"{url}/health")
        trusting.load_cert_chain(client.chain, client.key)
        async with httpx.AsyncClient(verify=trusting, trust_env=False) as http:
            assert (await http.get(f"{url}/health")).status_code == 200
