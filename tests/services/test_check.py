"""``gsi check``: what it finds of three services, and what it says to do about it."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gsi.check.addresses import read_addresses
from gsi.check.descriptions import look_at_descriptions
from gsi.check.findings import Finding, Level, worst
from gsi.check.services import check_services
from gsi.cli.main import app
from gsi.engines.base import EngineSettings
from gsi.engines.registry import REWARD_ENGINES
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.local.embedded_redis import free_port
from services.draft import servicer as draft_servicer
from services.prm import servicer as prm_servicer
from tests.engines.reward_checkpoints import classifier
from tests.services.conftest import load_shipped, serving
from tests.services.test_compatibility import DRAFT, PRM, TARGET
from tests.system import ModelServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

INFOS = {"draft": DRAFT, "target": TARGET, "prm": PRM}


async def find(addresses: Mapping[str, str]) -> dict[str, Finding]:
    """Return the findings by subject."""
    return {finding.subject: finding async for finding in check_services(read_addresses(addresses))}


async def test_a_family_that_works_together_has_no_error(model_services: ModelServices) -> None:
    """Each service also did its part of a step, and the PRM rates a right step above a wrong one."""
    found = await find(model_services.stack.addresses)
    assert {subject for subject, finding in found.items() if finding.level is not Level.OK} == set()
    asked = {"draft proposes", "target scores", "target proposes", "target agrees", "prm rewards", "prm judges"}
    assert asked <= found.keys()


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


@pytest.mark.parametrize(
    ("changes", "subject", "level", "words"),
    [
        ({"draft": {"tokenizer_fingerprint": "f" * 64}}, "tokenizers", Level.ERROR, "Two models of one family"),
        ({"target": {"likelihoods": ()}}, "likelihood", Level.ERROR, "GSI_TARGET_LIKELIHOOD"),
        ({"draft": {"temperature": 0.9}, "target": {"temperature": 0.9}}, "defaults", Level.WARNING, "temperature=0.9"),
        ({"draft": {"eos_token_ids": ()}}, "end of sequence", Level.ERROR, "generation_config.json"),
        ({"draft": {"eos_token_ids": (9,)}}, "end of sequence", Level.WARNING, "generation_config.json"),
        ({"prm": {"max_length": 400}}, "context", Level.WARNING, "max_tokens"),
        ({"target": {"max_length": 100}}, "context", Level.ERROR, "longer context"),
        ({"prm": {"has_bounded_rewards": False}}, "rewards", Level.WARNING, "reward_map"),
    ],
)
def test_a_description_that_does_not_fit_is_found(
    changes: dict[str, dict[str, Any]], subject: str, level: Level, words: str
) -> None:
    """Each with one sentence that says what to do."""
    infos = {role: replace(info, **changes.get(role, {})) for role, info in INFOS.items()}
    found = {finding.subject: finding for finding in look_at_descriptions(infos)}
    assert found[subject].level is level
    assert words in found[subject].advice


def test_descriptions_that_fit_have_no_advice() -> None:
    findings = list(look_at_descriptions(INFOS))
    assert worst(findings) is Level.OK
    assert not any(finding.advice for finding in findings)


def test_an_address_that_is_missing_is_named_with_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the coordinator's variable, and as the option of the command."""
    monkeypatch.delenv("GSI_COORDINATOR_PRM", raising=False)
    with pytest.raises(MisconfiguredError, match=r"GSI_COORDINATOR_PRM: .*; allowed: host:port, or --prm"):
        read_addresses({"draft": "127.0.0.1:1", "target": "127.0.0.1:2"})
