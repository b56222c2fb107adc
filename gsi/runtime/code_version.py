"""Which code made a result: the release, and a digest of the sources that decide steps, answers and grades."""

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

from gsi.runtime.installation import DISTRIBUTION

PACKAGE = Path(__file__).parents[1]
DECISIVE = ("algorithm", "grading", "jobs")  # every image has them, so equal code has equal digests everywhere


@cache
def describe_code() -> str:
    """Return the version of this installation, as ``1.2.0+0123456789ab``: another decisive source, another version."""
    digest = hashlib.sha256()
    for folder in DECISIVE:
        for path in sorted((PACKAGE / folder).rglob("*")):
            if path.suffix in {".py", ".lua"}:
                digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode() + path.read_bytes())
    return f"{_read_release()}+{digest.hexdigest()[:12]}"


def _read_release() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
