"""curl: every command of README and of the gateway's document, with a key, as the document says to add it."""

import asyncio
import json
import os
import re
import shutil

import pytest

from tests.clients.conftest import Door
from tests.clients.running import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOCUMENTS = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/gateway.md")]
BLOCKS = [block for document in DOCUMENTS for block in re.findall(r"```sh\n(.*?)```", document, re.DOTALL)]
COMMANDS = [block for block in BLOCKS if block.startswith("curl")]
KEY = '-H "Authorization: Bearer $KEY"'


async def run(door: Door, command: str, key: str) -> str:
    """Run a shell's command, and return what it prints."""
    assert shutil.which("curl"), "curl is missing: install it, which make test-clients needs"
    process = await asyncio.create_subprocess_shell(
        command,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*", "GSI_URL": door.gateway.url, "KEY": key},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode()


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_answers_whoever_has_a_key(door: Door, command: str) -> None:
    """And tells anybody else that a key is needed."""
    assert f"`{KEY}`" in DOCUMENTS[1]
    said = await run(door, command.replace("curl ", f"curl --fail-with-body {KEY} ", 1), door.key)
    is_stream = '"stream": true' in command
    answers = [json.loads(line.removeprefix("data: ")) for line in said.split("\n\n") if line.startswith("data: {")]
    answer = answers[0] if is_stream else json.loads(said)
    assert answer["object"] in {"list", "chat.completion", "chat.completion.chunk", "text_completion", "response"}
    assert ("data: [DONE]" in said) == is_stream
    refused = json.loads(await run(door, command, ""))
    assert refused["error"]["type"] == "authentication_error"


async def test_there_are_commands() -> None:
    """The test above reads some."""
    assert len(COMMANDS) >= 5


async def test_the_status_of_a_model_without_its_body(door: Door) -> None:
    """By ``curl --head``, also for a name with a colon, and one that is encoded."""
    for name, status in (("gsi:rsd", "200"), ("gsi%3Arsd", "200"), ("none", "404")):
        said = await run(door, f'curl -sI {KEY} "$GSI_URL/v1/models/{name}"', door.key)
        assert said.split()[1] == status
