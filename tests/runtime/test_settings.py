"""A malformed or misspelt setting stops the process with a sentence that names the variable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsi.runtime.settings import EXIT_BAD_SETTINGS, find_unknown_variables
from services.coordinator.settings import CoordinatorSettings
from services.draft.settings import DraftSettings

GOOD = {"GSI_DRAFT_LISTEN": "127.0.0.1:0", "GSI_DRAFT_MODEL": "models/draft"}


def start(module: str, settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Start a process that is expected to refuse."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GSI_")}
    command = [sys.executable, "-m", module]
    return subprocess.run(command, env=inherited | settings, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"GSI_DRAFT_LISTEN": "everywhere"}, "bad setting  GSI_DRAFT_LISTEN: String should match pattern"),
        ({"GSI_DRAFT_NUM_THREADS": "many"}, "bad setting  GSI_DRAFT_NUM_THREADS: Input should be a valid integer"),
        ({"GSI_DRAFT_GRACE_SECONDS": "-1"}, "bad setting  GSI_DRAFT_GRACE_SECONDS: Input should be greater than or"),
        (
            {"GSI_DRAFT_ENGINE": "remote"},
            "bad setting  GSI_DRAFT_REMOTE_URL: engine remote needs the address of a model server",
        ),
        ({"GSI_DRAFT_REMOTE_URL": "ftp://a"}, "bad setting  GSI_DRAFT_REMOTE_URL: String should match pattern"),
        (
            {"GSI_DRAFT_REMOTE_API_KEY": "a", "GSI_DRAFT_REMOTE_API_KEY_FILE": "b"},
            "bad setting  GSI_DRAFT_REMOTE_API_KEY, GSI_DRAFT_REMOTE_API_KEY_FILE: set one of them, or none",
        ),
        ({"GSI_DRAFT_MODLE": "x"}, "bad setting  GSI_DRAFT_MODLE: no such setting; did you mean GSI_DRAFT_MODEL?"),
    ],
)
def test_a_process_refuses_a_bad_setting(changed: dict[str, str], sentence: str) -> None:
    """The process does not start with a value that it does not understand."""
    refused = start("services.draft", GOOD | changed)
    assert (refused.returncode, refused.stdout) == (EXIT_BAD_SETTINGS, "")
    assert refused.stderr.startswith(sentence)


def test_a_missing_setting_is_named() -> None:
    """A coordinator without services to talk to says which addresses it needs."""
    refused = start("services.coordinator", {})
    assert refused.returncode == EXIT_BAD_SETTINGS
    named = [line.split()[2].rstrip(":") for line in refused.stderr.splitlines()]
    assert named == ["GSI_COORDINATOR_DRAFT", "GSI_COORDINATOR_TARGET", "GSI_COORDINATOR_PRM"]


def test_a_checkpoint_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    """The service ends with code 1 and no traceback."""
    missing = str(tmp_path / "nothing")
    refused = start("services.draft", GOOD | {"GSI_DRAFT_MODEL": missing})
    assert refused.returncode == 1
    assert "cannot start" in refused.stderr
    assert missing in refused.stderr
    assert "Traceback" not in refused.stderr


def test_variables_of_kubernetes_are_not_mistaken_for_settings() -> None:
    """A Service named gsi-draft puts these variables into every pod of its namespace."""
    links = {
        "GSI_DRAFT_SERVICE_HOST": "10.0.0.7",
        "GSI_DRAFT_SERVICE_PORT_GRPC": "50051",
        "GSI_DRAFT_PORT": "tcp://10.0.0.7:50051",
        "GSI_DRAFT_PORT_50051_TCP_ADDR": "10.0.0.7",
    }
    assert find_unknown_variables(DraftSettings, links) == []
    assert find_unknown_variables(CoordinatorSettings, links) == []
