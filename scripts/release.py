"""The steps of a release that no library has: ``python scripts/release.py COMMAND ARGUMENTS`` (``make release-…``).

``check TAG``: the tag, pyproject.toml, the chart and the images' label name one version, and no change waits unwritten.
``image NAME PLATFORM REPOSITORY``: builds an image for a platform, pushes it, and prints its name for the scan.
``manifest NAME REPOSITORY PLATFORM…``: the commands that join an image's platforms under its tag.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
IMAGES = {  # by the name of its lock: repository, suffix of its tag
    "slim": ("gsi-slim", ""),
    "engine-transformers": ("gsi-engine", "-transformers"),
    "engine-vllm": ("gsi-engine", ""),
    "engine-vllm-cpu": ("gsi-engine", "-vllm-cpu"),
}


def version() -> str:
    """Return the version, from the one place that has it."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def check(tag: str) -> list[str]:
    """Return what keeps a tag from being released."""
    wanted, faults = version(), list[str]()
    if tag != f"v{wanted}":
        faults.append(f"the tag is {tag}, and pyproject.toml has version {wanted}: allowed: v{wanted}")
    chart = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text())
    faults += [
        f"helm/Chart.yaml: {name} is {chart[name]}; allowed: {wanted}"
        for name in ("version", "appVersion")
        if chart[name] != wanted
    ]
    if f"\n## [{wanted}] - " not in (ROOT / "CHANGELOG.md").read_text():
        faults.append(f"CHANGELOG.md has no section {wanted}: make changelog writes it")
    waiting = [path.name for path in (ROOT / "changes").glob("*.md") if path.name != "README.md"]
    return [*faults, *(f"changes/{name} is not in CHANGELOG.md yet: make changelog" for name in sorted(waiting))]


def tag_of(image: str, repository: str) -> str:
    """Return the full name under which people find an image."""
    name, suffix = IMAGES[image]
    return f"{repository}/{name}:{version()}{suffix}"


def build_command(image: str, platform: str, repository: str, torch_index_url: str, revision: str) -> list[str]:
    """Return the command that builds an image for one platform, with an SPDX list and provenance, and pushes it."""
    file = "slim" if image == "slim" else "engine"
    arguments = {"VERSION": version(), "REVISION": revision}
    if file == "engine":
        arguments |= {"VARIANT": image.removeprefix("engine-"), "TORCH_INDEX_URL": torch_index_url}
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    return [
        *("docker", "buildx", "build", "--push", "--sbom=true", "--provenance=mode=max"),
        *("--platform", f"linux/{platform}", "--file", f"docker/{file}.Dockerfile"),
        *("--tag", f"{tag_of(image, repository)}-{platform}", *given, "."),
    ]


def manifest_commands(image: str, repository: str, platforms: list[str]) -> list[list[str]]:
    """Return the commands that make one name of all platforms, and that print its digest."""
    tag = tag_of(image, repository)
    joined = ["docker", "buildx", "imagetools", "create", "--tag", tag, *(f"{tag}-{each}" for each in platforms)]
    return [joined, ["docker", "buildx", "imagetools", "inspect", tag, "--format", "digest={{.Manifest.Digest}}"]]


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "check":
        faults = check(*arguments)
        sys.exit("\n".join(faults) or None)
    if command == "image":
        image, platform, repository = arguments
        torch, revision = os.environ.get("TORCH_INDEX_URL", ""), os.environ.get("GITHUB_SHA", "unknown")
        subprocess.run(build_command(image, platform, repository, torch, revision), cwd=ROOT, check=True)
        print(f"image={tag_of(image, repository)}-{platform}")
    if command == "manifest":
        image, repository, *platforms = arguments
        for each in manifest_commands(image, repository, platforms):
            subprocess.run(each, check=True)


if __name__ == "__main__":
    main()
