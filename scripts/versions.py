"""Write the version of pyproject.toml, its one place, where other files need it: chart, images, Compose, citation."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = (
    "CITATION.cff",
    "compose.gpu.yaml",
    "compose.yaml",
    "docker/engine.Dockerfile",
    "docker/slim.Dockerfile",
    "docs/images.md",
    "helm/Chart.yaml",
    "helm/values-cpu.yaml",
)
BEFORE = r"gsi-slim:|gsi-engine:|\{tag: |^ARG VERSION=|^version: |^appVersion: \""
WRITTEN = re.compile(rf"({BEFORE})\d+\.\d+\.\d+", re.MULTILINE)


def write(root: Path) -> None:
    """Write the files that name the version into a folder."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for name in FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name_version((ROOT / name).read_text(encoding="utf-8"), version), encoding="utf-8")


def name_version(text: str, version: str) -> str:
    """Return a file with another version of this project; versions of others stay."""
    return WRITTEN.sub(lambda found: found[1] + version, text)
