"""The last release's code, out of this repository's history."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = (Path(__file__).parent / "last_release" / "COMMIT").read_text(encoding="utf-8").strip()
FOLDERS = ("gsi", "services")


def unpack_last_release(folder: Path) -> Path:
    """Unpack the packages of the last release into a folder. Fails the test where the history does not have them."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", COMMIT, *FOLDERS], check=False, capture_output=True)
    if archive.returncode:
        pytest.fail(
            f"this clone does not have the last release ({archive.stderr.decode().strip()}): "
            f"git fetch --depth 1 origin {COMMIT}"
        )
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder
