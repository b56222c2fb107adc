"""The gateway as ``gsi up`` starts it, without the models; ``tests/services/test_local_stack.py`` has the whole."""

import json
import re
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

from gsi.cli import evaluate, system
from gsi.local import stack
from gsi.local.forks import ForkServer
from gsi.local.stack import gateway_environments, make_process


@pytest.mark.parametrize("is_fork", [False, True])
async def test_it_starts_and_serves_files(is_fork: bool, redis_url: str, queue: str, tmp_path: Path) -> None:
    """As an interpreter of its own, and as a fork; with a place for files beside the logs."""
    (environment,) = gateway_environments(redis_url, queue, tmp_path).values()
    forks = ForkServer((), tmp_path / "forks.log") if is_fork else None
    async with forks or nullcontext():
        process = make_process("gateway", environment, tmp_path / "gateway.log", lambda *_: None, forks)
        await process.start()
        try:
            url = f"http://{environment['GSI_GATEWAY_LISTEN']}"
            async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
                assert (await http.get("/ready")).status_code == 200
                assert (await http.get("/v1/files")).status_code == 200
        finally:
            await process.stop()


def test_its_page_shows_the_evaluations_of_this_folder(tmp_path: Path) -> None:
    """``gsi up`` looks where ``gsi eval`` writes."""
    assert stack.EVALUATIONS == evaluate.EVALUATIONS
    environment = gateway_environments("redis://x", "q", tmp_path)["gateway"]
    assert environment["GSI_GATEWAY_EVALUATIONS"] == str(Path.cwd() / stack.EVALUATIONS)


def test_its_directions_can_be_followed(capsys: pytest.CaptureFixture[str]) -> None:
    """The body that it prints for curl is a request."""
    system._print_directions("redis://x", {}, "http://127.0.0.1:8000")
    said = capsys.readouterr().err
    (body,) = re.findall(r"curl -N http://127.0.0.1:8000/v1/chat/completions --json '(.*)'", said)
    assert json.loads(body)["messages"][0]["role"] == "user"
    system._print_directions("redis://x", {}, None)
    assert "curl" not in capsys.readouterr().err
