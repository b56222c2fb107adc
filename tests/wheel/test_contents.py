"""What is in the wheel, and where it comes to lie."""

import csv
import subprocess
import sys
import tarfile
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from hatch_build import rename_imports
from tests.wheel.conftest import ROOT, SECONDS, Installation

pytestmark = pytest.mark.timeout(SECONDS)
MAX_BYTES = 15_000_000  # 11 MB of it are the shipped models


def test_nothing_but_gsi_stands_at_the_top_level(client: Installation) -> None:
    """What pip says that it installed, read from its own record: no other package can be overwritten."""
    (record,) = client.packages.glob("gsi_serve-*.dist-info/RECORD")
    tops = {Path(path).parts[0] for path, *_ in csv.reader(record.read_text().splitlines())}
    assert tops == {"gsi", record.parent.name, ".."}  # the last one: bin/gsi


def test_the_services_are_all_there_and_import_themselves_where_they_are(wheel: Path) -> None:
    """The same files as in ``services``; no import of a package that an installation has not."""
    with ZipFile(wheel) as files:
        sources = {name: files.read(name) for name in files.namelist() if name.startswith("gsi/services/")}
    here = {path for path in (ROOT / "services").rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert set(sources) == {f"gsi/{path.relative_to(ROOT).as_posix()}" for path in here}
    text = "\n".join(source.decode() for name, source in sources.items() if name.endswith(".py"))
    assert "\nfrom services" not in text
    assert "\nimport services" not in text


@pytest.mark.parametrize(
    ("line", "renamed"),
    [
        ("from services.draft.settings import X\n", "from gsi.services.draft.settings import X\n"),
        ("    from services import draft\n", "    from gsi.services import draft\n"),
        ("import services.draft\n", "import gsi.services.draft\n"),
        ("from services_of_others import X\n", "from services_of_others import X\n"),
        ("from gsi.check.services import X\n", "from gsi.check.services import X\n"),
        ("x = services.draft  # from services.draft\n", "x = services.draft  # from services.draft\n"),
    ],
)
def test_an_import_is_renamed_and_nothing_else(line: str, renamed: str) -> None:
    """Each form of import, and what only looks like one."""
    assert rename_imports(line) == renamed


def test_the_wheel_is_small(wheel: Path) -> None:
    """The models cost every client's download 11 MB; decision 0044 says why they are in it."""
    assert wheel.stat().st_size < MAX_BYTES


def test_a_wheel_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """Byte for byte: who builds it from the sources gets what is on the index."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", f"--outdir={tmp_path}", str(source)]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_extras_are_those_that_documents_name(wheel: Path) -> None:
    """An extra that is renamed would be ignored by pip with a warning; the base has none of the large packages."""
    with ZipFile(wheel) as files:
        (name,) = (each for each in files.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(files.read(name).decode())
    assert set(metadata.get_all("Provides-Extra", [])) >= {"demo", "vllm", "eval", "gateway", "service", "coordinator"}
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [line for line in base if line.startswith(("torch", "transformers", "vllm", "grpcio", "numpy"))] == []


def test_the_name_and_the_version_are_written_once(client: Installation) -> None:
    """pyproject.toml has both; the code has the name a second time, for what it tells users to install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = client.run("gsi", "--version")
    assert said == f"gsi {project['version']}\n"
    script = "from gsi.runtime.installation import DISTRIBUTION; print(DISTRIBUTION)"
    assert client.run("python", "-c", script) == f"{project['name']}\n"
