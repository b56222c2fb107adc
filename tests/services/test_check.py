"""``gsi check``: what it finds of three services, and what it says to do about it."""

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gsi.check.addresses import read_addresses
from gsi.check.findings import Finding, Level
from gsi.check.services import check_services
from gsi.cli.main import app
from gsi.engines.base import EngineSettings
from gsi.engines.registry import REWARD_ENGINES
from gsi.errors import InvalidRequestError
from gsi.local.embedded_redis import free_port
from services.draft import servicer as draft_servicer
from services.prm import servicer as prm_servicer
from tests.engines.reward_checkpoints import classifier
from tests.services.conftest import load_shipped, serving
from tests.system import ModelServices

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def find(addresses: Mapping[str, str]) -> dict[str, Finding]:
    """Return the findings by subject."""
    return {finding.subject: finding async for finding in check_services(read_addresses(addresses), 30.0)}


async def test_a_family_that_works_together_has_no_error(model_services: ModelServices) -> None:
    """Each service also did its part of a step, and the PRM rates a right step above a wrong one."""
    found = await find(model_services.stack.addresses)
    assert {subject for subject, finding in found.items() if finding.level is not Level.OK} == set()
    asked = {"draft proposes", "target scores", "target proposes", "target agrees", "prm rewards", "prm judges"}
    assert asked <= found.keys()
    assert found["rewards"].text == "rewards lie between 0 and 1, read by profile qwen2.5-math-prm"


async def test_the_command_prints_json_and_exits_1_on_an_error(model_services: ModelServices) -> None:
    """A service that is away is named with its address; what needs it is not asked."""
    addresses = {**model_services.stack.addresses, "prm": f"127.0.0.1:{free_port()}"}
    arguments = [word for role, address in addresses.items() for word in (f"--{role}", address)]
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["check", "--json", *arguments])
    assert ran.exit_code == 1
    told: dict[str, Any] = json.loads(ran.stdout)
    assert told["level"] == "error"
    (away,) = [finding for finding in told["findings"] if finding["level"] == "error"]
    assert away["subject"] == "prm"
    assert addresses["prm"] in away["text"]
    assert "GSI_COORDINATOR_PRM" in away["advice"]
    assert "prm rewards" not in [finding["subject"] for finding in told["findings"]]


async def test_an_outcome_model_is_recognised(model_services: ModelServices, tmp_path: Path) -> None:
    """Its rewards need a map, and u another value."""
    classifier(tmp_path / "prm")
    load = partial(REWARD_ENGINES.load, "transformers", EngineSettings(str(tmp_path / "prm"), num_threads=1))
    async with serving(prm_servicer.SERVICE, prm_servicer.add_to_server, load) as prm:
        found = await find({**model_services.stack.addresses, "prm": prm.address})
    assert found["rewards"].level is Level.WARNING
    assert "read by profile outcome:" in found["rewards"].text
    assert "reward_map" in found["rewards"].advice


async def test_a_draft_that_renders_nothing_is_an_error(model_services: ModelServices) -> None:
    """It says that it is ready, as a draft of an older release without a chat template does."""

    class NoTemplate:
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def render(self, _messages: object) -> tuple[int, ...]:
            raise InvalidRequestError("messages: the tokenizer has no chat template")

    async def load() -> Any:
        return NoTemplate(await load_shipped("draft"))

    async with serving(draft_servicer.SERVICE, draft_servicer.add_to_server, load) as draft:
        found = await find({**model_services.stack.addresses, "draft": draft.address})
    assert found["chat template"].level is Level.ERROR
    assert "GSI_DRAFT_CHAT_TEMPLATE" in found["chat template"].advice
