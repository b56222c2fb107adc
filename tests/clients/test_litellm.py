"""LiteLLM's proxy before the gateway, and an application that knows the proxy alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from gsi.local.embedded_redis import free_port
from tests.clients.conftest import Door
from tests.clients.running import LIMIT_SECONDS, PROGRAMS, program, run, variables
from tests.conftest import wait_until
from tests.gateway.engines import SLOW_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIG = Path(__file__).parent / "tasks" / "litellm.yaml"


@pytest_asyncio.fixture(loop_scope="session")
async def proxy_url(door: Door, tmp_path: Path) -> AsyncIterator[str]:
    """LiteLLM's proxy, as its users start it."""
    port = free_port()
    command = [program("litellm", "litellm"), "--config", str(CONFIG), "--host", "127.0.0.1", "--port", str(port)]
    own = {"GSI_URL": door.base_url, "GSI_KEY": door.key}
    with (tmp_path / "litellm.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=variables(tmp_path, own), stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"

    async def is_up() -> bool:
        assert process.returncode is None, (tmp_path / "litellm.log").read_text()
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"{url}/health/liveliness")).status_code == 200
        return False

    try:
        await wait_until(is_up, "LiteLLM's proxy is up", LIMIT_SECONDS)
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_an_application_behind_the_proxy(proxy_url: str, tmp_path: Path) -> None:
    """Has answers, GSI's options and figures, errors that name the field, and steps one after another.

    The proxy holds each step back until the next one is there.
    """
    own = {"OPENAI_BASE_URL": f"{proxy_url}/v1", "OPENAI_API_KEY": "sk-of-the-proxy"}
    said = (
        await run([program("evaluation", "python"), str(PROGRAMS / "openai_python.py"), "proxy"], tmp_path, own)
    ).json
    assert (said["answer"], said["num_jobs"]) == ("One. Two.", 1)
    assert said["draft_tokens"] == 2 * (len("One. Two.") + 2)
    assert said["texts"] == ["One. ", "Two. ", "Three.", "Four."]
    assert said["again"] == "user: 2 + 3?\nassistant: One. Two.\nuser: repeat"
    assert said["seconds"] >= SLOW_SECONDS
    assert said["response"] == "One. Two."
    assert said["models"] == ["guided", "nothing"]
    assert said["errors"]["model"][0] == "NotFoundError"
    assert said["errors"]["tools"] == ["BadRequestError", "400", "tools", False]
