"""The last release's code and contracts, out of this repository's history.

``python -m tests.skew.last_release_code COMMIT`` replaces the files of ``last_release`` by those of a release's commit.
"""

import re
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST_RELEASE = Path(__file__).parent / "last_release"
COMMIT = (LAST_RELEASE / "COMMIT").read_text(encoding="utf-8").strip()
SCHEMAS = ("job", "step", "result")  # 0.1.0 had the first; the others are those of the first commit that had them


def read_history(commit: str, *paths: str) -> bytes | None:
    """Return a tar archive of paths as they were; None where the history has no such commit or path."""
    command = ["git", "-C", str(ROOT), "archive", commit, *paths]
    archive = subprocess.run(command, check=False, capture_output=True)
    return None if archive.returncode else archive.stdout


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack a tar archive."""
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def unpack_last_release(folder: Path) -> Path:
    """Unpack the packages of the last release into a folder. Fails the test where the history does not have them."""
    require_history()
    archive = read_history(COMMIT, "gsi", "services")
    assert archive is not None
    unpack(archive, folder)
    return folder


def require_history() -> None:
    """Fail the test if this clone does not have the last release."""
    if read_history(COMMIT, "protos") is None:
        pytest.fail(f"this clone does not have the last release: git fetch --depth 1 origin {COMMIT}")


def read_contracts(commit: str, folder: Path) -> None:
    """Write a release's protos, schemas, commit and payload format into a folder."""
    for path in ("protos", *(f"docs/{name}.schema.json" for name in SCHEMAS), "gsi/jobs/payload.py"):
        if (archive := read_history(commit, path)) is not None:
            unpack(archive, folder)
    for schema in (folder / "docs").glob("*.schema.json"):
        schema.rename(folder / schema.name)
    found = re.search(r"^PAYLOAD_FORMAT = (\d+)$", (folder / "gsi/jobs/payload.py").read_text("utf-8"), re.MULTILINE)
    (folder / "PAYLOAD_FORMAT").write_text(f"{found[1] if found else 0}\n", encoding="utf-8")
    (folder / "COMMIT").write_text(f"{commit}\n", encoding="utf-8")
    shutil.rmtree(folder / "docs")
    shutil.rmtree(folder / "gsi")


def main() -> None:
    """Replace the committed contracts."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", f"{sys.argv[1]}^{{commit}}"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    shutil.rmtree(LAST_RELEASE / "protos")
    read_contracts(commit, LAST_RELEASE)


if __name__ == "__main__":
    main()
