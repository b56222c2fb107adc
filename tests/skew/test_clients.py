"""Clients of one release before coordinators of the other, with every kind of job that the last release can run."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gsi.client.sdk import AsyncClient
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from tests.gateway.system import scripted_models
from tests.skew.last_release_code import unpack_last_release
from tests.skew.test_two_releases import Coordinator, running
from tests.system import ModelServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = held_out_problems(1)[0]["prompt"]
# What a payload of the last release may ask, beside the defaults: its methods, its rules, and the fields around them.
JOBS: dict[str, dict[str, Any]] = {
    "all-candidates": {"params": {"n": 2, "keep_candidates": True, "acceptance_threshold": 0.9, "beta": 4.0}},
    "no-rejection": {"params": {"method": "gsi-no-rejection", "n": 2, "likelihood": "model"}},
    "rsd": {"params": {"method": "rsd", "n": 2, "weighting": "logistic=10/0.7"}},
    "search": {"params": {"method": "beam-search", "n": 4, "beam_width": 2, "max_steps": 4}},
    "vote": {"params": {"method": "majority-vote", "n": 3, "max_tokens": 200}},
    "best-of-n": {"params": {"method": "best-of-n", "n": 2, "scope": "responses", "aggregate": "minimum"}},
    "greedy": {"params": {"method": "draft", "temperature": 0.0}},
    "fields": {
        "system": "Solve the problem.",
        "priority": "high",
        "tenant": "somebody",
        "deadline_seconds": 600,
        "result_ttl_seconds": 3600,
        "idempotency_key": "once",
        "params": {"n": 1, "seed": 3, "answer_pattern": r"is (\d+)", "reward_map": "raw"},
    },
}
PAYLOADS = {name: {"prompt": PROMPT, **asked} for name, asked in JOBS.items()}
# Run with the last release's code: its SDK submits, follows and reads.
LAST_SDK = """
import asyncio, json, sys
from gsi.client.sdk import Client

async def main():
    url, queue, payloads = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    async with Client(url, queue) as client:
        ids = {name: await client.submit(payload) for name, payload in payloads.items()}
        told = {}
        for name, job_id in ids.items():
            steps = [record async for record in client.follow(job_id)]
            record = await client.result(job_id)
            told[name] = {"id": job_id, "state": record.state, "error": record.fields.get("error"), "steps": len(steps)}
        print(json.dumps(told))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def last_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_last_release(tmp_path_factory.mktemp("last-release"))


async def test_the_last_releases_sdk_before_this_releases_coordinators(
    redis_url: str, last_release: Path, tmp_path: Path
) -> None:
    """Its users need change nothing: every kind of job succeeds, and they read its steps and its result."""
    queue = "two-releases-sdk"
    async with scripted_models(tmp_path, redis_url, queue), AsyncClient(redis_url, queue) as client:
        command = [sys.executable, "-P", "-c", LAST_SDK, redis_url, queue, json.dumps(PAYLOADS)]
        sdk = await asyncio.create_subprocess_exec(
            *command, env=os.environ | {"PYTHONPATH": str(last_release)}, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await sdk.communicate()
        assert sdk.returncode == 0
        told = json.loads(printed)
        assert {name: (each["state"], each["error"]) for name, each in told.items()} == dict.fromkeys(
            PAYLOADS, ("SUCCEEDED", "")
        )
        for each in told.values():
            assert each["steps"] == len((await client.result(each["id"])).steps) > 0


async def test_this_releases_sdk_before_the_last_releases_coordinator(
    model_services: ModelServices, last_release: Path, tmp_path: Path
) -> None:
    """Jobs that use nothing new are submitted in the form that the older coordinator reads."""
    queue = "two-releases-older"
    older = Coordinator(last_release, model_services, queue, tmp_path)
    async with model_services.coordinators(queue, num_coordinators=0) as system, running(older):
        ids = {name: await system.client.submit(payload) for name, payload in PAYLOADS.items()}
        for name, job_id in ids.items():
            followed = [record async for record in system.client.follow(job_id)]
            record = await system.finished(job_id)
            assert (name, record.state, record.error) == (name, JobState.SUCCEEDED, None)
            assert len(followed) == len(record.steps) > 0
