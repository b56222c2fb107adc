"""``import gsi``: what it costs, and what it has."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import files as files_of
from importlib.metadata import requires, version
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gsi
from gsi.runtime.installation import DISTRIBUTION

ROOT = Path(__file__).parents[2]

MEASURE = """
import sys, time
before = set(sys.modules)
start = time.process_time()  # of the processor: another process on the machine does not count
import gsi
seconds = time.process_time() - start
print(seconds)
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
"""


def test_to_import_gsi_costs_nothing() -> None:
    """No package of anybody else and no module of ours: under a tenth of a second."""
    shown = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    seconds, imported = shown.splitlines()
    assert imported == "['gsi']"
    assert float(seconds) < 0.1


@pytest.mark.parametrize("name", gsi.__all__)
def test_every_name_is_there(name: str) -> None:
    """It is imported when it is asked for, and named after itself."""
    found = getattr(gsi, name)
    assert name in ("__version__", getattr(found, "__name__", ""))


def test_every_place_is_exported() -> None:
    """One list for readers and type checkers, one for the import."""
    assert {*gsi._PLACES, "__version__"} == set(gsi.__all__)
    assert dir(gsi) == sorted(gsi.__all__)


def test_a_wrong_name_is_refused() -> None:
    """As of every module."""
    with pytest.raises(ImportError, match="AsyncClientt"):
        exec("from gsi import AsyncClientt")
    assert not hasattr(gsi, "nothing")


def test_the_version_is_the_installed_one_and_the_types_are_known() -> None:
    """Type checkers read the code of a package that has py.typed."""
    assert gsi.__version__ == version("gsi-serve")
    assert files("gsi").joinpath("py.typed").is_file()


def test_documents_and_code_name_the_package_and_extras_that_there_are() -> None:
    """``pip install 'gsi-serve[x]'`` in every document works; the code takes the name from one place."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = [extra for path in documents for extra in re.findall(r"gsi-serve\[([\w,-]+)\]", path.read_text())]
    assert named
    assert {extra for each in named for extra in each.split(",")} <= set(project["optional-dependencies"])
    sources = [path for folder in ("gsi", "services") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in sources if "gsi-serve" in path.read_text()] == ["installation.py"]


def distributions_of_the_client() -> set[str]:
    """Return what ``pip install gsi-serve`` brings, without extras."""
    found = set[str]()
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    while asked:
        requirement = Requirement(asked.pop())
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            asked += requires(name) or []
    return found


def test_the_client_alone_is_small() -> None:
    """At most 60 MB with its own code; no gRPC, no mathematics, no models. Bytecode counts as much as the code."""
    found = distributions_of_the_client()
    assert not found & {"torch", "sympy", "math-verify", "grpcio", "protobuf", "numpy", "transformers"}
    installed = [path for name in found for path in files_of(name) or [] if path.suffix != ".pyc"]
    ours = [path for folder in ("gsi", "services") for path in (ROOT / folder).rglob("*.py")]
    sizes = [Path(path.locate()).stat().st_size for path in installed] + [path.stat().st_size for path in ours]
    assert 2 * sum(sizes) < 60_000_000


CLIENT_ALONE = """
import sys
wanted = {"grpc", "google.protobuf", "math_verify", "sympy", "pynvml", "prometheus_client", "pydantic_settings"}
sys.modules.update(dict.fromkeys(wanted))  # as if they were not installed
from gsi.client import blocking
from gsi.cli.main import COMMANDS, load_command
for name in COMMANDS:
    load_command(name)
print("imported")
"""


def test_the_client_and_every_command_are_imported_without_the_extras() -> None:
    """A command that needs more says so when it is called, and names the extra."""
    shown = subprocess.run([sys.executable, "-c", CLIENT_ALONE], capture_output=True, text=True, check=False)
    assert (shown.stdout, shown.stderr) == ("imported\n", "")
