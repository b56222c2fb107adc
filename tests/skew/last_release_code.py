"""The last release's code and contracts, which ``last_release`` holds: a clone may have no history.

``python -m tests.skew.last_release_code COMMIT`` replaces the files of ``last_release`` by those of a release's commit.
"""

import lzma
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
LAST_RELEASE = Path(__file__).parent / "last_release"
CODE = "code.tar.xz"
PACKAGES = ("gsi", "services", "protos")
SCHEMAS = ("job", "step", "result")  # 0.1.0 had the first; the others are those of the first commit that had them


def unpack_last_release(folder: Path) -> Path:
    """Unpack the packages, the protos and the schemas of the last release into a folder."""
    with tarfile.open(LAST_RELEASE / CODE) as tar:
        tar.extractall(folder, filter="data")
    return folder


def read_contracts(release: Path, folder: Path) -> None:
    """Write the protos, schemas and payload format of an unpacked release into a folder."""
    shutil.copytree(release / "protos", folder / "protos", dirs_exist_ok=True)
    for schema in (release / "docs").glob("*.schema.json"):
        shutil.copy(schema, folder)
    payload = (release / "gsi" / "jobs" / "payload.py").read_text(encoding="utf-8")
    found = re.search(r"^PAYLOAD_FORMAT = (\d+)$", payload, re.MULTILINE)
    (folder / "PAYLOAD_FORMAT").write_text(f"{found[1] if found else 0}\n", encoding="utf-8")


def run_git(*arguments: str) -> bytes:
    """Return what git prints. Raises CalledProcessError."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


def main() -> None:
    """Replace the committed code and contracts. Needs the commit in this repository's history."""
    commit = run_git("rev-parse", "--verify", f"{sys.argv[1]}^{{commit}}").decode().strip()
    documents = run_git("ls-tree", "--name-only", commit, "docs/").decode().splitlines()
    schemas = [path for path in (f"docs/{name}.schema.json" for name in SCHEMAS) if path in documents]
    (LAST_RELEASE / CODE).write_bytes(lzma.compress(run_git("archive", commit, *PACKAGES, *schemas), preset=9))
    (LAST_RELEASE / "COMMIT").write_text(f"{commit}\n", encoding="utf-8")
    shutil.rmtree(LAST_RELEASE / "protos")
    with TemporaryDirectory() as folder:
        read_contracts(unpack_last_release(Path(folder)), LAST_RELEASE)


if __name__ == "__main__":
    main()
