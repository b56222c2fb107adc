"""What ``gsi check`` finds in the descriptions of models alone."""

from dataclasses import replace
from typing import Any

import pytest

from gsi.check.addresses import read_addresses
from gsi.check.descriptions import look_at_descriptions
from gsi.check.findings import Level, worst
from gsi.errors import MisconfiguredError
from tests.services.test_compatibility import DRAFT, PRM, TARGET

INFOS = {"draft": DRAFT, "target": TARGET, "prm": PRM}


@pytest.mark.parametrize(
    ("changes", "subject", "level", "words"),
    [
        ({"draft": {"tokenizer_fingerprint": "f" * 64}}, "tokenizers", Level.ERROR, "two models of one family"),
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
