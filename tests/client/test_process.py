"""The command ``gsi`` as a process: nothing that a user can cause ends in a traceback."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gsi
from gsi.cli.main import COMMANDS
from gsi.local.embedded_redis import free_port
from tests.client.conftest import Coordinator

COMMAND = [sys.executable, "-c", "from gsi.cli.start import main; main()"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, check=False, env={**os.environ, **environment})


def test_the_version_is_shown() -> None:
    """Of the package."""
    assert run("--version").stdout.decode() == f"gsi {gsi.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"), [("gsi ", {*COMMANDS}), ("gsi queue p", {"pause"}), ("gsi jobs --state DE", {"DEAD"})]
)
def test_a_shell_completes_commands_options_and_values(words: str, expected: set[str]) -> None:
    """``gsi --install-completion`` has the shell ask like this."""
    asked = {"_GSI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'gsi'; from gsi.cli.start import main; main()"]
    shown = subprocess.run(command, capture_output=True, check=False, text=True, env={**os.environ, **asked})
    assert set(shown.stdout.split()) == expected


def test_redis_that_is_away_is_one_line() -> None:
    """It names the server."""
    port = free_port()
    failed = run("result", "a", GSI_REDIS_URL=f"redis://127.0.0.1:{port}/0")
    assert failed.returncode == 1
    (line,) = failed.stderr.decode().splitlines()
    assert line.startswith(f"no Redis  redis://127.0.0.1:{port}/0 is unavailable: ")
    assert "gsi up" in line


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """It names the file."""
    folder = tmp_path / "file"
    folder.write_text("no folder")
    failed = run("eval", "--limit", "1", "--out", str(folder))
    assert failed.returncode == 1
    assert failed.stderr.decode().splitlines()[-1].startswith(f"failed  {folder}")
    assert b"Traceback" not in failed.stderr


def test_ctrl_c_while_modules_are_imported_is_silent(tmp_path: Path) -> None:
    """The process ends by the signal, as any program does."""
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    importing = subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    with importing:
        assert importing.stdout is not None
        assert importing.stdout.readline() == b"importing\n"
        importing.send_signal(signal.SIGINT)
        _, said = importing.communicate(timeout=10)
    assert (importing.returncode, said) == (-signal.SIGINT, b"")


async def test_ctrl_c_while_jobs_run_says_how_to_go_on(
    redis_url: str, queue: str, coordinator: Coordinator, tmp_path: Path
) -> None:
    """What is done is written, and the same command resumes."""
    file = tmp_path / "in.jsonl"
    file.write_text('{"prompt": "say a"}\n{"prompt": "say b"}\n')
    environment = {**os.environ, "GSI_REDIS_URL": redis_url, "GSI_QUEUE": queue}
    running = await asyncio.create_subprocess_exec(
        *COMMAND, "run", str(file), "--in-flight", "1", stdout=-1, stderr=-1, env=environment
    )
    assert running.stdout is not None
    async with coordinator():
        assert json.loads(await running.stdout.readline())["answer"] == "a"
    running.send_signal(signal.SIGINT)
    _, said = await running.communicate()
    assert running.returncode in {130, 0}  # 0: it was faster
    if running.returncode:
        assert b"1 of 2 results are written; the same command resumes" in said
    async with coordinator():
        again = await asyncio.to_thread(run, "run", str(file), GSI_REDIS_URL=redis_url, GSI_QUEUE=queue)
    assert [json.loads(line)["answer"] for line in again.stdout.splitlines()] == ["a", "b"]


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
async def test_the_locale_c_shows_what_it_can(
    redis_url: str, queue: str, coordinator: Coordinator, locale: dict[str, str]
) -> None:
    """A text is shown with question marks where the terminal has no character; JSON stays exact."""
    where = {"GSI_REDIS_URL": redis_url, "GSI_QUEUE": queue, **locale}
    payload = json.dumps({"prompt": "say \u00e9t\u00e9\u2026", "id": "a"})
    async with coordinator():
        submitted = await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, "run", "-"],
            input=payload.encode(),
            capture_output=True,
            check=True,
            env={**os.environ, **where},
        )
    assert json.loads(submitted.stdout)["answer"] == "\u00e9t\u00e9\u2026"
    shown = await asyncio.to_thread(run, "result", "a", **where)
    assert shown.returncode == 0
    assert shown.stdout in {"\u00e9t\u00e9\u2026\n".encode(), b"?t??\n"}
    assert (await asyncio.to_thread(run, "result", "--help", **where)).returncode == 0
