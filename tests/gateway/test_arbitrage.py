"""Arbitrage over the gateway: a coordinator with a router of its models, and one without."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gsi.router_file import RouterFile
from tests.gateway.jobs import finish, submit
from tests.gateway.system import Gateway, scripted_models
from tests.routers import write_router

pytestmark = pytest.mark.asyncio(loop_scope="session")

# p = 1 / (1 + exp(-2)) = 0.88 of every step, whatever its features are.
ROUTER = RouterFile(features=(), means=(), scales=(), weights=(), intercept=2.0)
DIGEST = hashlib.sha256(ROUTER.model_dump_json().encode()).hexdigest()  # of the file, by which results name it
PROMPT = r"One. |Two. |\boxed{7}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    folder = tmp_path_factory.mktemp("arbitrage")
    settings = {"router": write_router(folder, ROUTER)}
    async with (
        scripted_models(folder, redis_url, "arbitrage", settings_of_coordinator=settings) as models,
        models.gateway("arbitrage") as gateway,
        gateway.http() as client,
    ):
        yield client


async def run(http: httpx.AsyncClient, method: str) -> Any:
    return await finish(http, await submit(http, PROMPT, keep_candidates=True, params={"method": method, "n": 2}))


@pytest.mark.parametrize(("tau", "source"), [(0.8, "target"), (0.9, "draft")])
async def test_the_router_decides_who_writes(http: httpx.AsyncClient, tau: float, source: str) -> None:
    """0.88 is above one threshold and below the other. The target wrote nothing of a step that was not its own."""
    whole = await run(http, f"arbitrage:tau={tau}")
    assert (whole["job"]["state"], whole["job"]["answer"]) == ("SUCCEEDED", "7")
    assert whole["job"]["params"]["router_threshold"] == tau
    assert whole["job"]["router"] == DIGEST
    assert {step["source"] for step in whole["steps"]} == {source}
    assert [bool(step["target_tokens"]) for step in whole["steps"]] == [source == "target"] * 3


async def test_the_oracle_writes_both_and_keeps_the_drafts_of_equal_steps(http: httpx.AsyncClient) -> None:
    """Both models are alike here, so every step is a tie; the page's trace has both proposals."""
    whole = await run(http, "arbitrage-oracle")
    assert whole["job"]["router"] is None  # none decided
    for step in whole["steps"]:
        assert [proposal["source"] for proposal in step["proposals"]] == ["draft", "target"]
        drafted, written = (each["candidates"][each["selected"]]["reward"] for each in step["proposals"])
        assert step["source"] == ("target" if written > drafted else "draft")


async def test_without_a_router_of_its_models_a_job_fails_with_the_reason(gateway: Gateway) -> None:
    """The coordinator has the shipped router, and models of another name."""
    async with gateway.http() as client:
        job = (await run(client, "arbitrage"))["job"]
    assert job["state"] == "FAILED"
    assert job["error"].startswith(
        "params.method: arbitrage needs a router of these models, and there is none: the coordinator's is for other "
        "models (its draft is draft, not no-op)"
    )


async def test_the_pages_form_offers_both_methods(http: httpx.AsyncClient) -> None:
    """With the threshold as a number from 0 to 1."""
    offered = (await http.get("/page/methods.json")).json()
    of = {method["name"]: method["parameters"] for method in offered["methods"]}
    assert "router_threshold" in of["arbitrage"]
    assert "router_threshold" not in of["arbitrage-oracle"]
    threshold = offered["parameters"]["router_threshold"]
    assert (threshold["type"], threshold["least"], threshold["most"], threshold["default"]) == ("number", 0, 1, 0.5)
