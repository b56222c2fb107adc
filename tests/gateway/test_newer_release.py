"""A gateway of this release behind coordinators of a newer one: steps and results with more in them, or unreadable."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio

from gsi.jobs.connection import connect
from gsi.jobs.keys import DEFAULT_TENANT, Keys
from gsi.jobs.state import JobState
from tests.gateway.system import Gateway, Models
from tests.jobs.sample import step

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def redis(models: Models) -> AsyncIterator[Any]:
    async with aclosing(connect(models.redis_url)) as client:
        yield client


async def finish_elsewhere(models: Models, redis: Any, job_id: str, written: dict[str, Any]) -> None:
    """Leave a finished job as a coordinator of a newer release does: with one kept step, and fields of its own."""
    keys = Keys(models.queue)
    now = (await redis.time())[0] * 1000
    record = {
        "state": JobState.SUCCEEDED.value,
        "payload": json.dumps({"id": job_id, "prompt": "What is 2 + 3?", "params": {"n": 2}}),
        "tenant": DEFAULT_TENANT,
        "lane": keys.jobs,
        "submitted_at": now,
        "finished_at": now,
        "num_steps": 1,
        "attempt": 1,
        "answer": "5",
        "text": "5",
        "stop_reason": "eos",
        "of_a_newer_release": json.dumps({"more": [1, 2]}),
    }
    await redis.xadd(keys.steps(job_id), {"step": json.dumps(written), "token": 0, "more": "1"})
    await redis.hset(keys.record(job_id), mapping=record)


async def test_what_a_newer_release_adds_is_ignored(models: Models, gateway: Gateway, redis: Any) -> None:
    """By the page's job, and by its stream of steps."""
    await finish_elsewhere(models, redis, "more", json.loads(step(0).to_json()) | {"added": {"by": "a newer release"}})
    async with gateway.http() as http:
        shown = await http.get("/gsi/v1/jobs/more")
        assert shown.status_code == 200, shown.text
        assert shown.json()["steps"][0]["text"] == step(0).text
        streamed = await http.get("/gsi/v1/jobs/more/events")
    assert json.dumps(step(0).text)[1:-1] in streamed.text


async def test_a_step_that_cannot_be_read_is_a_sentence(models: Models, gateway: Gateway, redis: Any) -> None:
    """An outcome that this release does not know: the answer says what to upgrade, and the gateway serves on."""
    written = json.loads(step(0).to_json()) | {"outcome": "reused"}
    await finish_elsewhere(models, redis, "unreadable", written)
    async with gateway.http() as http:
        shown = await http.get("/gsi/v1/jobs/unreadable")
        assert shown.status_code == 501
        assert "newer release" in shown.json()["error"]["message"]
        streamed = await http.get("/gsi/v1/jobs/unreadable/events")
        assert "newer release" in streamed.text
        assert (await http.get("/ready")).status_code == 200
