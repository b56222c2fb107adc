"""What `make wheel` built, and new environments in which it is installed: nothing of this checkout is in them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 900  # pip may download torch


class Installation:
    """A virtual environment with the wheel, and an empty folder to run its programs in."""

    def __init__(self, folder: Path, wheel: Path, extra: str) -> None:
        self.python = folder / "venv" / "bin" / "python"
        self.folder = folder / "empty"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        self.run(str(self.python), "-m", "pip", "install", "--quiet", "--no-compile", wanted)

    @property
    def packages(self) -> Path:
        """The folder of what is installed."""
        (found,) = self.python.parents[1].glob("lib/python3*/site-packages")
        return found

    def run(self, *command: str, **settings: str) -> str:
        """Run a command, whose first word may be a program of the environment; return its standard output."""
        ran = self.try_to_run(*command, **settings)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def try_to_run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail, with nothing of the tests' own Python in its environment."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GSI_", "VIRTUAL"))}
        program = self.python.parent / command[0]
        words = [str(program) if program.exists() else command[0], *command[1:]]
        return subprocess.run(
            words, cwd=self.folder, env=own | settings, capture_output=True, text=True, check=False, timeout=SECONDS
        )


@pytest.fixture(scope="session")
def wheel() -> Path:
    """What `make wheel` has just built."""
    (found,) = (ROOT / "dist").glob("gsi_serve-*.whl")
    return found


@pytest.fixture(scope="session")
def sdist() -> Path:
    (found,) = (ROOT / "dist").glob("gsi_serve-*.tar.gz")
    return found


@pytest.fixture(scope="session")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Installation]:
    """Install the wheel with an extra; empty: with none."""
    return lambda extra: Installation(tmp_path_factory.mktemp(extra or "client"), wheel, extra)


@pytest.fixture(scope="session")
def client(install: Callable[[str], Installation]) -> Installation:
    """An installation without extras."""
    return install("")


@pytest.fixture(scope="session")
def demo(install: Callable[[str], Installation]) -> Installation:
    """An installation with the extra demo."""
    return install("demo")
