"""The package openai for JavaScript: the newest major release and the one before it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from gsi.jobs.state import JobState
from tests.clients.conftest import Door
from tests.clients.running import ENVIRONMENTS, PROGRAMS, program, run
from tests.conftest import wait_until
from tests.gateway.engines import SLOW_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("package", ["openai", "openai-6"])
async def test_an_application_in_javascript(door: Door, tmp_path: Path, package: str) -> None:
    """Answers, streams, responses, files, batches and errors, as its user sees them."""
    (tmp_path / "node_modules").symlink_to(ENVIRONMENTS / "node" / "node_modules")
    shutil.copy(PROGRAMS / "openai_node.mjs", tmp_path)
    before = await _cancelled(door)
    own = {**door.variables, "SMALL_KEY": await door.new_small_key()}
    said = (await run([program("node", "node"), "openai_node.mjs", package], tmp_path, own)).json
    assert said["answer"] == ["2 + 3 is 5.", "stop", len("2 + 3 is 5.") + 2]
    assert said["again"] == "user: 2 + 3?\nassistant: 2 + 3 is 5.\nuser: repeat"
    _check_streams(said)
    assert (said["begun"], said["background"]) == ("queued", ["completed", "One. Two."])
    assert (said["batch"], said["content"], said["listed"]) == (["completed", "5"], True, True)
    assert {"gsi", "gsi:draft", said["model"]} <= set(said["models"])
    assert said["errors"] == {
        "key": ["AuthenticationError", 401, "invalid_api_key", None, False],
        "model": ["NotFoundError", 404, "model_not_found", "model", False],
        "tools": ["BadRequestError", 400, "unsupported_parameter", "tools", False],
        "rate": ["RateLimitError", 429, "rate_limit_exceeded", None, True],
        "stream": ["APIError", None, None, None, False],
    }

    async def is_cancelled() -> bool:
        return len(await _cancelled(door) - before) == 1

    await wait_until(is_cancelled, "the job of the stream that the application left is cancelled")


async def _cancelled(door: Door) -> set[str]:
    return {job.id for job in await door.gateway.jobs.jobs(JobState.CANCELLED, limit=100)}


def _check_streams(said: Any) -> None:
    assert (said["texts"], said["usage"]) == (["One. ", "Two. ", "Three."], len("One. Two. Three.") + 3)
    assert said["seconds"] >= SLOW_SECONDS
    assert (said["helper"], said["response"], said["broken"]) == ("One. Two.", "One. Two.", 2)
    assert (said["events"][0], said["events"][-1]) == ("response.created", "response.completed")
    assert said["events"].count("response.output_text.delta") == 2
