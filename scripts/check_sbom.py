"""Compare lists of packages with the locks that they were made of: ``check_sbom.py LOCKS LISTS`` (``make sbom``).

A list is CycloneDX, is of this version of this project, and has every package of its lock with a hash.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def find_faults(lock: str, listed: str) -> list[str]:
    """Return what is wrong with the list of a lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bom = json.loads(listed)
    if bom.get("bomFormat") != "CycloneDX":
        return ["it is not CycloneDX"]
    subject = bom.get("metadata", {}).get("component", {})
    faults = []
    if (subject.get("name"), subject.get("version")) != (project["name"], project["version"]):
        faults.append(f"it is of {subject.get('name')} {subject.get('version')}")
    hashed = {
        (each["name"], each["version"])
        for each in bom.get("components", [])
        if any(reference.get("hashes") for reference in each.get("externalReferences", []))
    }
    faults += [
        f"{name} {version} is not in it with a hash" for name, version in sorted(set(LOCKED.findall(lock)) - hashed)
    ]
    return faults


def main() -> None:
    locks, lists = map(Path, sys.argv[1:])
    faults = []
    for lock in sorted(locks.glob("*.txt")):
        listed = lists / f"{lock.stem}.cdx.json"
        found = find_faults(lock.read_text(encoding="utf-8"), listed.read_text(encoding="utf-8"))
        faults += [f"{listed}: {fault}" for fault in found]
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
