"""Rights of keys: each route with a key of another tenant, with a key that lacks the right, and without a key."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gsi.client.gateway import open_api_keys
from gsi.jobs.api_keys import ApiKeys, Right
from tests.conftest import wait_until
from tests.gateway.jobs import finish, get, submit
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(models: Models) -> AsyncIterator[Gateway]:
    """A gateway that asks for keys, with a folder for files."""
    settings = {"GSI_GATEWAY_KEYS": "true", "GSI_GATEWAY_FILES": str(models.folder / "files")}
    async with models.gateway("rights", settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keys(models: Models) -> AsyncIterator[ApiKeys]:
    async with open_api_keys(models.redis_url) as store:
        yield store


async def key_of(keys: ApiKeys, tenant: str, right: Right | None = None, **allowed: Any) -> str:
    given = {} if right is None else {"right": right}
    secret, _ = await keys.create(f"{tenant}", tenant=tenant, **given, **allowed)
    return secret


OF_A_JOB = (
    ("GET", "/gsi/v1/jobs/{id}"),
    ("GET", "/gsi/v1/jobs/{id}/events"),
    ("POST", "/gsi/v1/jobs/{id}/cancel"),
    ("POST", "/gsi/v1/jobs/{id}/retry"),
)
OF_A_TENANT = (
    ("GET", "/v1/responses/{response}"),
    ("POST", "/v1/responses/{response}/cancel"),
    ("DELETE", "/v1/responses/{response}"),
    ("GET", "/v1/files/{file}"),
    ("GET", "/v1/files/{file}/content"),
    ("DELETE", "/v1/files/{file}"),
    ("GET", "/v1/batches/{batch}"),
    ("POST", "/v1/batches/{batch}/cancel"),
)
QUESTION = [{"role": "user", "content": "5"}]
ACTING: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/chat/completions", {"model": "gsi", "messages": QUESTION}),
    ("POST", "/v1/completions", {"model": "gsi", "prompt": "5"}),
    ("POST", "/v1/responses", {"model": "gsi", "input": "5"}),
    ("POST", "/v1/responses/resp_x/cancel", None),
    ("DELETE", "/v1/responses/resp_x", None),
    ("POST", "/v1/files", {}),
    ("DELETE", "/v1/files/file-x", None),
    ("POST", "/v1/batches", {}),
    ("POST", "/v1/batches/batch_x/cancel", None),
    ("POST", "/gsi/v1/jobs", {"model": "gsi", "prompt": "5"}),
    ("POST", "/gsi/v1/jobs/x/cancel", None),
    ("POST", "/gsi/v1/jobs/x/retry", None),
)
READING = (
    "/v1/models",
    "/v1/models/gsi",
    "/v1/files",
    "/v1/batches",
    "/gsi/v1/session",
    "/gsi/v1/jobs",
    "/gsi/v1/queue",
    "/gsi/v1/evaluations",
    "/gsi/v1/evaluations/x",
    "/gsi/v1/evaluations/x/images/y.png",
)
OPERATING = ("/gsi/v1/queue/pause", "/gsi/v1/queue/resume")


async def test_every_route_needs_a_key(guarded: Gateway) -> None:
    """401 before anything is looked at, for each route that the gateway describes."""
    async with guarded.http() as http:
        described = (await http.get("/openapi.json")).json()["paths"]
        routes = [(method.upper(), path) for path, methods in described.items() for method in methods]
        assert {path.split("/")[1] for _, path in routes} == {"health", "ready", "v1", "gsi"}
        for method, path in routes:
            expected = 200 if path in {"/health", "/ready"} else 401
            assert (await http.request(method, re.sub(r"\{\w+\}", "x", path))).status_code == expected, (method, path)


async def test_every_route_is_tried_here(guarded: Gateway) -> None:
    """A new route needs a line in one of the tables above."""
    tried = {(method, _pattern(path)) for method, path, _ in ACTING} | {("GET", _pattern(path)) for path in READING}
    tried |= {("POST", path) for path in OPERATING} | {(method, _pattern(path)) for method, path in OF_A_JOB}
    tried |= {(method, _pattern(path)) for method, path in OF_A_TENANT}
    async with guarded.http() as http:
        described = (await http.get("/openapi.json")).json()["paths"]
    routes = {(method.upper(), _pattern(path)) for path, methods in described.items() for method in methods}
    assert {route for route in routes if "v1" in route[1]} == tried


def _pattern(path: str) -> str:
    """Return a path with a star for each part that names one thing."""
    return re.sub(r"(?<=/)(\{\w+\}|x|y\.png|gsi(?=$)|\w+[_-]x)(?=/|$)", "*", path)


async def test_what_is_another_tenants_does_not_exist(guarded: Gateway, keys: ApiKeys) -> None:
    """Responses, files and batches: 404 with a foreign key by each route, also one that operates; a list has none."""
    async with guarded.http(await key_of(keys, "owner")) as http:
        response = (await http.post("/v1/responses", json={"model": "gsi", "input": "5"})).json()["id"]
        uploaded: Any = {"file": ("lines.jsonl", b"{}\n"), "purpose": (None, "batch")}
        file = (await http.post("/v1/files", files=uploaded)).json()["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = (await http.post("/v1/batches", json=asked)).json()["id"]
    owned = {"response": response, "file": file, "batch": batch}
    for right in (Right.SUBMIT, Right.OPERATE):
        async with guarded.http(await key_of(keys, "stranger", right)) as http:
            for method, path in OF_A_TENANT:
                assert (await http.request(method, path.format(**owned))).status_code == 404, (right, method, path)
            assert [(await http.get(f"/v1/{path}")).json()["data"] for path in ("files", "batches")] == [[], []]
    async with guarded.http(await key_of(keys, "owner", Right.READ)) as http:
        for method, path in OF_A_TENANT:
            if method == "GET":
                assert (await http.request(method, path.format(**owned))).status_code == 200, path


async def test_another_tenants_job_does_not_exist(guarded: Gateway, keys: ApiKeys) -> None:
    """404 by every route, whatever the right below operate; and no list, search or queue shows it."""
    async with guarded.http(await key_of(keys, "mine")) as http:
        job_id = await submit(http, "a secret question")
        await finish(http, job_id)
        assert [job["id"] for job in (await get(http, "jobs"))["jobs"]] == [job_id]
    for right in (Right.READ, Right.SUBMIT):
        async with guarded.http(await key_of(keys, "foreign", right)) as http:
            for method, path in OF_A_JOB:
                answer = await http.request(method, path.format(id=job_id))
                expected = 403 if right is Right.READ and method == "POST" else 404
                assert answer.status_code == expected, (right, method, path)
            for query in ({}, {"q": "secret"}, {"q": job_id}, {"tenant": "mine"}):
                assert (await get(http, "jobs", **query))["jobs"] == []
    async with guarded.http(await key_of(keys, "foreign", Right.OPERATE)) as http:
        assert (await get(http, f"jobs/{job_id}"))["job"]["tenant"] == "mine"
        assert [job["id"] for job in (await get(http, "jobs", tenant="mine"))["jobs"]] == [job_id]


async def test_a_key_with_the_right_to_read_may_not_act(guarded: Gateway, keys: ApiKeys) -> None:
    """403 by each route that submits, cancels, deletes or retries; what it may read, it reads."""
    async with guarded.http(await key_of(keys, "reader", Right.READ)) as http:
        assert (await get(http, "session"))["rights"] == ["read"]
        for method, path, body in ACTING:
            answer = await http.request(method, path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "right_missing"), (method, path)
        for path in READING:
            expected = 404 if "/x" in path else 200  # there is no such evaluation
            assert (await http.get(path)).status_code == expected, path


async def test_a_queue_is_paused_by_a_key_that_operates(guarded: Gateway, keys: ApiKeys) -> None:
    """By no other; without a right a key submits, as those of a release without rights do."""
    for right in (Right.READ, Right.SUBMIT, None):
        async with guarded.http(await key_of(keys, "pausing", right)) as http:
            for path in OPERATING:
                answer = await http.post(path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "right_missing"), (right, path)
    async with guarded.http(await key_of(keys, "pausing", Right.OPERATE)) as http:
        for path in OPERATING:
            assert (await http.post(path)).status_code == 200


async def test_a_key_of_the_release_before_rights_submits(keys: ApiKeys) -> None:
    """Such a record has no right, and a key with the default right is written without: both releases read both."""
    secret, key = await keys.create("plain")
    assert "right" not in json.loads(key.model_dump_json())
    found = await keys.find(secret)
    assert found is not None
    assert found[0].right is Right.SUBMIT
    secret, key = await keys.create("operator", right=Right.OPERATE)
    assert await keys.find(secret) == (key, 0)


async def test_the_tokens_of_a_job_count_against_its_key(guarded: Gateway, keys: ApiKeys) -> None:
    """Though nobody waits for it; and a key may be for some models."""
    secret, key = await keys.create("counted", models=("gsi",))
    async with guarded.http(secret) as http:
        whole = await finish(http, await submit(http, "5"))
        refused = await http.post("/gsi/v1/jobs", json={"model": "gsi:draft", "prompt": "5"})
        assert refused.status_code == 403
    usage = whole["job"]["usage"]
    spent = usage["prompt_tokens"] + usage["draft_tokens"] + usage["target_tokens"] + usage["prm_tokens"]

    async def is_counted() -> bool:
        return [tokens for found, tokens in await keys.list() if found.id == key.id] == [spent]

    await wait_until(is_counted, "the job's tokens are counted")


async def test_metrics_tell_who_asks_and_who_is_refused(guarded: Gateway, keys: ApiKeys) -> None:
    """By the tenant of the key, and requests that ask for something to be done: a page that looks is not counted."""
    own, limited = await key_of(keys, "counted"), await key_of(keys, "narrow", requests_per_minute=1)
    body = {"model": "gsi", "messages": QUESTION}
    async with guarded.http(own) as http, guarded.http(limited) as narrow, guarded.http("unknown") as stranger:
        assert (await http.get("/gsi/v1/jobs")).status_code == 200
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        assert (await http.post("/v1/chat/completions", json=body | {"model": "none"})).status_code == 404
        assert [(await narrow.post("/v1/chat/completions", json=body)).status_code for _ in range(2)] == [200, 429]
        assert (await stranger.post("/v1/chat/completions", json=body)).status_code == 401
        found = dict(re.findall(r"^gsi_gateway_tenant_(\S+) (\S+)$", (await http.get(guarded.metrics_url)).text, re.M))
    requests = {name: float(number) for name, number in found.items() if name.startswith("requests_total")}
    assert {name: number for name, number in requests.items() if number and re.search("counted|narrow", name)} == {
        'requests_total{outcome="answered",tenant="counted"}': 1,
        'requests_total{outcome="refused",tenant="counted"}': 1,
        'requests_total{outcome="answered",tenant="narrow"}': 1,
        'requests_total{outcome="limited",tenant="narrow"}': 1,
    }
    assert requests['requests_total{outcome="failed",tenant="counted"}'] == 0
    assert float(found['tokens_total{tenant="counted"}']) > 0
    assert not any("unknown" in name for name in requests)
