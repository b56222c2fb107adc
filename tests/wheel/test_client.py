"""The wheel without extras: the SDK, its types, and sentences for what is not there."""

import subprocess
import sys
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from tests.wheel.conftest import SECONDS, Installation

pytestmark = pytest.mark.timeout(SECONDS)

CONSUMER = """
from gsi import Client, JobRecord

def ask(client: Client) -> str:
    record: JobRecord = client.result(client.submit({"prompt": "What is 2 + 2?"}))
    reveal_type(record.state)
    record.no_such_name
    return record.state
"""
EXTRAS = [
    ("draft", {}, "transformers"),
    ("prm", {"GSI_PRM_ENGINE": "vllm"}, "vllm"),
    ("merged", {}, "transformers"),
    ("coordinator", {}, "coordinator"),
    ("gateway", {}, "gateway"),
    ("exporter", {}, "service"),
]
COMMANDS = [("demo", "demo"), ("eval --limit 1", "eval"), ("check", "service")]


def test_a_type_checker_reads_the_installed_types(client: Installation) -> None:
    """mypy knows what a call returns, and finds the one fault of a small program."""
    (client.folder / "consumer.py").write_text(CONSUMER)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(client.python), "consumer.py"]
    said = client.try_to_run(*command).stdout
    assert 'Revealed type is "gsi.jobs.state.JobState"' in said
    assert '"JobRecord" has no attribute "no_such_name"' in said
    assert "Found 1 error in 1 file" in said, said


@pytest.mark.parametrize(("process", "settings", "extra"), EXTRAS)
def test_a_process_that_is_not_installed_names_its_extra(
    client: Installation, process: str, settings: dict[str, str], extra: str
) -> None:
    """One sentence, and no traceback."""
    refused = client.try_to_run("gsi", "serve", process, **settings)
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"the {process} cannot start: ")
    assert line.endswith(f"pip install 'gsi-serve[{extra}]'")


@pytest.mark.parametrize(("command", "extra"), COMMANDS)
def test_a_command_that_is_not_installed_names_its_extra(client: Installation, command: str, extra: str) -> None:
    """The extra has all that the command needs."""
    refused = client.try_to_run("gsi", *command.split())
    assert refused.returncode != 0
    assert f"pip install 'gsi-serve[{extra}]'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_help_is_quick(client: Installation) -> None:
    """In seconds of a processor, which a busy machine does not change much; the best of three calls."""
    seconds = []
    for _ in range(3):
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run([client.python.parent / "gsi", "--help"], check=True, capture_output=True, cwd=client.folder)
        after = getrusage(RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5
