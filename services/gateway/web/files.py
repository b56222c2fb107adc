"""The files of the page, read and compressed once."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
COMPRESSED = frozenset({".css", ".html", ".js", ".json", ".svg"})  # a font is compressed already


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is sent. ``compressed`` None: gzip would not make it smaller."""

    content: bytes
    compressed: bytes | None
    media_type: str
    etag: str


def make_file(name: str, content: bytes) -> PageFile:
    """Return content under a name, whose ending says what it is."""
    suffix = Path(name).suffix
    compressed = gzip.compress(content, 9, mtime=0) if suffix in COMPRESSED else None
    return PageFile(content, compressed, TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@cache
def load_files() -> Mapping[str, PageFile]:
    """Return each file of the page by its path in the folder."""
    return dict(_read_files())


def _read_files() -> Iterator[tuple[str, PageFile]]:
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in TYPES:  # licences and notes stay here
            name = path.relative_to(FOLDER).as_posix()
            yield name, make_file(name, path.read_bytes())
