"""What a wheel has elsewhere than a checkout: ``services`` as ``gsi.services``, the shipped models as ``gsi.family``.

Nothing but ``gsi`` stands at the top level of an installation, so no other package is overwritten. An editable
installation is the checkout itself. ``gsi/runtime/installation.py`` tells the two apart.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FAMILY = ("draft", "target", "prm", "router", "heldout.jsonl")  # what `gsi up` and `gsi demo` read
OWN_IMPORT = re.compile(r"^([ ]*(?:from|import) )services(?=[. ])", re.MULTILINE)


class MovedPackages(BuildHookInterface[Any]):
    """Adds the two folders to a wheel; the images build one where ``models`` is not there."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        self._copies = Path(tempfile.mkdtemp(prefix="gsi-services-"))
        for source in sorted((root / "services").rglob("*")):
            if source.is_file() and source.parent.name != "__pycache__":
                name = source.relative_to(root)
                copy = self._copies / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(moved(source))
                build_data["force_include"][str(copy)] = f"gsi/{name.as_posix()}"
        for path in (root / "models" / name for name in FAMILY):
            if path.exists():
                build_data["force_include"][str(path)] = f"gsi/family/{path.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 (hatch)
        if version != "editable":
            shutil.rmtree(self._copies)


def moved(source: Path) -> bytes:
    """Return a file of ``services`` as the wheel has it. Beside Python there are pages and their pictures."""
    content = source.read_bytes()
    return rename_imports(content.decode()).encode() if source.suffix == ".py" else content


def rename_imports(source: str) -> str:
    """Return a module whose imports of ``services`` are those of ``gsi.services``."""
    return OWN_IMPORT.sub(r"\1gsi.services", source)
