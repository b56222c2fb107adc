"""``import gsi``: what it costs, and what it has."""

import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest

import gsi

MEASURE = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
import gsi
seconds = time.perf_counter() - start
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
