"""``gsi serve`` in a checkout; ``tests/wheel`` has the same for an installation."""

import os
import subprocess
import sys
from pathlib import Path

from gsi.cli import serve
from gsi.runtime.installation import SERVICES, SHIPPED_MODELS

ROOT = Path(__file__).parents[2]


def test_every_folder_of_services_can_be_started() -> None:
    """A new process takes its place in the command."""
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert {process.value for process in serve.Process} == folders


def test_a_checkout_has_its_services_and_models_where_they_are() -> None:
    """At the top level of the repository."""
    assert SERVICES == "services"
    assert SHIPPED_MODELS == ROOT / "models"


def test_the_command_becomes_the_process() -> None:
    """The process id stays, and what refuses a setting is the process itself, with its exit code."""
    command = [sys.executable, "-c", "from gsi.cli.start import main; main()", "serve", "draft"]
    environment = {**os.environ, "GSI_DRAFT_LISTEN": "nowhere"}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 78
    assert "GSI_DRAFT_LISTEN" in refused.stderr
