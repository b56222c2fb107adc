"""What docs/gateway.md tells users to run."""

import asyncio
import os
import re
import tomllib
from pathlib import Path

import pytest

from services.gateway.presets import load_presets
from tests.gateway.system import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOCUMENT = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")
COMMANDS = [block for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) if block.startswith("curl")]


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_answers(gateway: Gateway, command: str) -> None:
    """Each curl is run by a shell as it stands there."""
    process = await asyncio.create_subprocess_shell(
        command.replace("curl ", "curl --fail-with-body --noproxy '*' "),
        env={**os.environ, "GSI_URL": gateway.url},
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await process.communicate()
    assert process.returncode == 0, answer
    assert b'"object":' in answer
    assert ("data: [DONE]" in answer.decode()) == ('"stream": true' in command)


async def test_there_are_commands() -> None:
    """The test above reads some."""
    assert len(COMMANDS) == 5


async def test_the_example_of_presets_is_one(tmp_path: Path) -> None:
    """As a gateway reads it."""
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    path = tmp_path / "presets.toml"
    path.write_text(example)
    assert set(load_presets(path, "default")) == set(tomllib.loads(example)["models"]) == {"small", "large"}
