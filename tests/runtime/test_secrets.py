"""Secrets stand in no log, metric or error; no code comes from data: no pickle, no eval, no code of a checkpoint."""

import ast
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from gsi.local.embedded_redis import embedded_redis, free_port
from services.coordinator.settings import CoordinatorSettings

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
START_SECONDS = 30.0

SETTINGS = {f"GSI_COORDINATOR_{role}": "127.0.0.1:1" for role in ("DRAFT", "TARGET", "PRM")}


def environment(settings: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GSI_")} | settings


@contextmanager
def coordinator(settings: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a coordinator whose standard output and error go to a file; stop it on leaving."""
    command = [sys.executable, "-m", "services.coordinator"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment(SETTINGS | settings), stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def wait_for(text: str, log: Path) -> str:
    """Return the log once it has a text."""
    deadline = time.monotonic() + START_SECONDS
    while text not in log.read_text():
        assert time.monotonic() < deadline, f"no {text!r} in {log.read_text()}"
        time.sleep(0.05)
    return log.read_text()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"redis://user:{SECRET}/x@127.0.0.1:6379/0", r"redis url: redis://\*\*\*@127.0.0.1:6379/0 cannot be read"),
        (f"https://user:{SECRET}@redis.example", r"redis url: https://\*\*\*@redis.example cannot be read"),
    ],
)
def test_a_coordinator_with_a_wrong_url_does_not_tell_its_password(tmp_path: Path, url: str, sentence: str) -> None:
    """The last line of its log shows the URL masked."""
    log = tmp_path / "log"
    with coordinator({"GSI_COORDINATOR_REDIS_URL": url}, log) as process:
        assert process.wait(START_SECONDS) == 1
    assert re.search(sentence, log.read_text())
    assert SECRET not in log.read_text()


def test_a_coordinator_with_a_wrong_password_does_not_tell_it(tmp_path: Path) -> None:
    """The process ends, since waiting would not correct the password, and logs the server's words."""
    log = tmp_path / "log"
    with embedded_redis() as url:
        with redis.Redis.from_url(url) as owner:
            owner.execute_command("ACL", "SETUSER", "gsi", "on", ">another", "~*", "+@all")
        settings = {"GSI_COORDINATOR_REDIS_URL": url.replace("//", f"//gsi:{SECRET}@")}
        with coordinator(settings, log) as process:
            assert process.wait(START_SECONDS) == 1
    assert "cannot start" in log.read_text()
    assert "invalid username-password pair" in log.read_text()
    assert SECRET not in log.read_text()


def test_a_coordinator_whose_redis_is_away_does_not_tell_its_password(tmp_path: Path) -> None:
    """Neither the log at level debug nor the metrics have it."""
    log, metrics = tmp_path / "log", f"127.0.0.1:{free_port()}"
    settings = {
        "GSI_COORDINATOR_REDIS_URL": f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0",
        "GSI_COORDINATOR_METRICS_LISTEN": metrics,
        "GSI_COORDINATOR_LOG_LEVEL": "debug",
    }
    with coordinator(settings, log):
        wait_for("redis is away", log)
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
            series = answer.read().decode()
    assert "gsi_" in series
    assert SECRET not in series + log.read_text()


@pytest.mark.parametrize("url", [f"redis://user:{SECRET}/x@127.0.0.1", f"redis://user:{SECRET}@127.0.0.1:1"])
def test_the_command_line_does_not_tell_a_password(url: str) -> None:
    """For a URL that cannot be read, and for an unavailable server."""
    command = [sys.executable, "-c", "from gsi.cli.main import main; main()", "result", "some-id"]
    settings = environment({"GSI_REDIS_URL": url})
    ran = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert SECRET not in ran.stdout + ran.stderr
    assert len(ran.stderr.splitlines()) <= 3, "a traceback"


def test_settings_are_shown_without_the_url() -> None:
    """A log line with the settings has no password."""
    address = "127.0.0.1:1"
    url = f"redis://:{SECRET}@127.0.0.1"
    assert SECRET not in repr(CoordinatorSettings(redis_url=url, draft=address, target=address, prm=address))


# --- No code from data -----------------------------------------------------------------------------------------------

SOURCES = sorted(
    path for folder in ("gsi", "services") for path in (ROOT / folder).rglob("*.py") if "v1" not in path.parts
)
RUNS_DATA = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
EVALUATES = {"eval", "exec", "compile", "__import__"}
NAMED = {"trust_remote_code", "weights_only", "allow_pickle"}


def faults(source: str) -> list[str]:
    """Return where a module runs what it has read: by syntax, so that comments and methods such as eval() are none."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names if name.name.partition(".")[0] in RUNS_DATA]
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in RUNS_DATA:
                found.append(module)
            case ast.Call(func=ast.Name(id=name)) if name in EVALUATES:
                found.append(name)
            case ast.keyword(arg=str(name), value=ast.Constant(value=bool(value))) if name in NAMED:
                found += [name] if value is not (name == "weights_only") else []
            case ast.keyword(arg=str(name)) if name in NAMED:
                found.append(f"{name}, not a constant")
            case ast.Constant(value=str(text)) if re.fullmatch(r"(--)?trust[_-]remote[_-]code", text):
                found.append(text)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_what_it_has_read(path: Path) -> None:
    """No pickle, no evaluation of input, no code of a checkpoint."""
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("load(name, trust_remote_code=True)", "trust_remote_code"),
        ("load(name, trust_remote_code=given)", "trust_remote_code, not a constant"),
        ("torch.load(path, weights_only=False)", "weights_only"),
        ("options = {'trust_remote_code': True}", "trust_remote_code"),
    ],
)
def test_a_module_that_would_is_found(source: str, fault: str) -> None:
    """The search above finds what it looks for, and no methods of the same name."""
    assert faults(source) == [fault]
    assert faults("model.eval(); load(name, trust_remote_code=False)") == []
