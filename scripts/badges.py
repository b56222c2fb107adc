"""Draw the badges of README, from what is so: ``python scripts/badges.py [FOLDER]``. They come from no other host."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHARACTER, PADDING, HEIGHT = 6.6, 8, 20  # in pixels, of a font of 11
SHAPE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="{name}: {value}">
<title>{name}: {value}</title>
<rect width="{left}" height="{height}" fill="#555"/>
<rect x="{left}" width="{right}" height="{height}" fill="#1a6e36"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{name_at}" y="14">{name}</text>
<text x="{value_at}" y="14">{value}</text>
</g>
</svg>
"""


def badges() -> dict[str, tuple[str, str]]:
    """Return name and value of each badge, from pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, types = settings["project"], settings["tool"]["mypy"]
    found = {
        "license": ("license", project["license"]),
        "python": ("Python", project["requires-python"].replace(">=", "") + " or newer"),
        "version": ("version", project["version"]),
    }
    if types["strict"] and (ROOT / "gsi" / "py.typed").exists():
        found["types"] = ("types", "strict")
    return found


def draw(name: str, value: str) -> str:
    """Return a badge as SVG."""
    left, right = (round(len(text) * CHARACTER + 2 * PADDING) for text in (name, value))
    return SHAPE.format(
        name=name,
        value=value,
        width=left + right,
        height=HEIGHT,
        left=left,
        right=right,
        name_at=left / 2,
        value_at=left + right / 2,
    )


def write(root: Path) -> None:
    """Write each badge as a picture of the documents."""
    folder = root / "docs" / "pictures" / "badges"
    folder.mkdir(parents=True, exist_ok=True)
    for file, (name, value) in badges().items():
        (folder / f"{file}.svg").write_text(draw(name, value), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
