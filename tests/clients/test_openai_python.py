"""The openai package, of each major release that is still in use."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.clients.conftest import Door
from tests.clients.running import LIMIT_SECONDS, PROGRAMS, program, run
from tests.conftest import wait_until
from tests.gateway.engines import SLOW_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="session")

RELEASES = {"openai-1": "1", "litellm": "2", "evaluation": "3"}
PROGRAM = str(PROGRAMS / "openai_python.py")
TWO = "One. Two."


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=RELEASES)
async def said(
    request: pytest.FixtureRequest, door: Door, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """What the program of an application has got, by the part of the API."""
    command = [program(request.param, "python"), PROGRAM]
    own = {**door.variables, "SMALL_KEY": await door.new_small_key()}
    ran = await run(command, tmp_path_factory.mktemp(request.param), own)
    assert ran.json["version"].split(".")[0] == RELEASES[request.param]
    yield ran.json


async def test_an_answer_can_go_back_as_the_client_holds_it(said: Any) -> None:
    """With every field that the client's object has."""
    asked = said["ask"]
    assert (asked["first"], asked["finish_reason"]) == ("2 + 3 is 5.", "stop")
    prompt, completion, total = asked["usage"]
    assert completion == len("2 + 3 is 5.") + 2
    assert prompt + completion == total
    assert asked["second"] == ["system: Be brief.\nuser: 2 + 3 is |5.\nassistant: 2 + 3 is 5.\nuser: repeat"] * 2
    assert asked["header"]


async def test_prompts_are_completed(said: Any) -> None:
    """Each by an answer."""
    assert said["complete"] == ["Two. Three.", "Four."]


async def test_chunks_come_as_steps_are_kept(said: Any) -> None:
    """And not as one burst at the end; the last chunk has the usage."""
    streamed = said["stream"]
    assert streamed["texts"] == ["One. ", "Two. ", "Three."]
    first, _, last = streamed["seconds"]
    assert last - first >= SLOW_SECONDS
    assert streamed["usage"]["completion_tokens"] == len("One. Two. Three.") + 3
    assert streamed["helper"] == {"deltas": ["One. ", "Two."], "content": TWO, "reason": "stop"}


async def test_requests_run_together(said: Any) -> None:
    """By the client for asyncio."""
    together = said["ask_together"]
    assert together["answers"] == [f"{number}. Done." for number in range(8)]
    assert together["texts"] == ["One. ", "Two."]
    assert {"gsi", "gsi:draft", together["model"]} <= set(together["models"])


async def test_responses_are_given_kept_and_ended(said: Any) -> None:
    """In the foreground, as a stream, in the background; a deleted one is gone."""
    answered = said["respond"]
    assert answered["now"] == ["completed", "Five is 5."]
    assert answered["again"] == "user: 2 + 3?\nassistant: Five is 5.\nuser: repeat"
    assert answered["final"] == ["completed", TWO]
    assert answered["kinds"].count("response.output_text.delta") == 2
    assert (answered["begun"], answered["kept"], answered["cancelled"]) == ("queued", [TWO], "cancelled")
    assert (answered["replayed"][0], answered["replayed"][-1]) == ("response.created", "response.completed")
    assert answered["deleted"] == ["NotFoundError", "response_not_found", "id", False]


async def test_batches_of_each_endpoint(said: Any) -> None:
    """Their output is the endpoint's own answer; files are bytes, listed in pages, and deleted."""
    batch = said["batch"]
    bodies = {endpoint: line["response"]["body"] for endpoint, line in batch["outputs"].items()}
    assert bodies["/v1/chat/completions"]["choices"][0]["message"]["content"] == TWO
    assert bodies["/v1/completions"]["choices"][0]["text"] == TWO
    assert bodies["/v1/responses"]["output"][0]["content"][0]["text"] == TWO
    assert (batch["listed"], batch["oldest_first"], batch["batches"]) == (True, True, True)
    assert batch["deleted"] == [True, ["NotFoundError", "file_not_found", "id", False]]


async def test_errors_have_their_classes(said: Any) -> None:
    """With the code, the field, and a time to come back where waiting helps."""
    assert said["fail"] == {
        "key": ["AuthenticationError", "invalid_api_key", None, False],
        "model": ["NotFoundError", "model_not_found", "model", False],
        "not allowed": ["PermissionDeniedError", "model_not_allowed", "model", False],
        "tools": ["BadRequestError", "unsupported_parameter", "tools", False],
        "rate": ["RateLimitError", "rate_limit_exceeded", None, True],
        "stream": ["APIError", None, None, False],
    }


async def test_a_client_waits_as_long_as_it_is_told(door: Door, tmp_path: Path) -> None:
    """A full queue refuses it; it comes back after ``Retry-After`` of two seconds, when there is room."""
    jobs = door.gateway.jobs
    await jobs.admin.limit(1)
    try:
        blocking = await jobs.submit({"prompt": "~Slow. |" * 1000, "params": {"max_steps": 1000}})
        client = asyncio.create_task(run([program("evaluation", "python"), PROGRAM, "retry"], tmp_path, door.variables))

        async def is_refused() -> bool:
            return any(request["status"] == 429 for request in door.gateway.logged("request")[seen:])

        seen = len(door.gateway.logged("request"))
        await wait_until(is_refused, "the client is refused", LIMIT_SECONDS)
        await jobs.cancel(blocking, "room for the client")
        said = (await client).json
    finally:
        await jobs.admin.limit(None)
    assert said["answer"] == "5"
    assert said["seconds"] >= 2
