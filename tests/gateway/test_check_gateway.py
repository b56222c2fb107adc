"""The chart's test of the gateway: a first request with a key of its own, which is gone afterwards."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsi.client.gateway import open_api_keys
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]


async def ask(redis_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from gsi.cli.start import main; main()", "check-gateway", *arguments]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GSI_REDIS_URL": redis_url}
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


async def test_it_asks_with_a_key_and_revokes_it(models: Models) -> None:
    """The first model that the gateway lists answers; no key is left."""
    async with models.gateway("asked", {"GSI_GATEWAY_KEYS": "true"}) as gateway:
        done = await ask(models.redis_url, gateway.url, "5")
    assert done.returncode == 0, done.stderr
    listed, answer, usage = done.stdout.splitlines()
    assert listed.startswith("models  gsi, ")
    assert answer.startswith("gsi  ")
    assert json.loads(usage.removeprefix("usage  "))["completion_tokens"] > 0
    async with open_api_keys(models.redis_url) as keys:
        assert not [key for key, _ in await keys.list() if key.name == "check-gateway"]


async def test_a_gateway_that_asks_for_no_key_fails_it(gateway: Gateway, models: Models) -> None:
    """It would serve everybody."""
    done = await ask(models.redis_url, gateway.url, "5")
    assert done.returncode == 1
    assert "without a key: status 200 and not 401" in done.stderr


async def test_a_gateway_that_is_away_is_named(models: Models) -> None:
    """With the time that was given, and no traceback."""
    done = await ask(models.redis_url, "http://127.0.0.1:9", "5", "--wait", "1")
    assert done.returncode == 1
    assert "http://127.0.0.1:9 was not ready within 1 s" in done.stderr
    assert "Traceback" not in done.stderr
