"""Every page of the built site: links lead somewhere, nothing comes from another host, every document is there."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import gsi
from gsi.cli.main import COMMANDS
from tests.site.conftest import ROOT, SITE, all_pages, read_page

NOT_FOUND = SITE / "404.html"  # served at any address, so its links start at the root


def is_local(address: str) -> bool:
    parts = urlsplit(address)
    return not parts.scheme and not parts.netloc


def leads_somewhere(page: Path, link: str) -> bool:
    """Return whether a link's file is there and has the place that it names."""
    parts = urlsplit(link)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file() or SITE not in target.parents:
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in read_page(target).ids


def test_no_link_is_dead() -> None:
    """Pages, files and places in pages, of every link within the site."""
    pages = [page for page in all_pages() if page != NOT_FOUND]
    links = {(page, link) for page in pages for link in read_page(page).links if is_local(link)}
    assert len(links) > 1000
    dead = [f"{page.relative_to(SITE)}: {link}" for page, link in sorted(links) if not leads_somewhere(page, link)]
    assert dead == []


def test_no_page_loads_anything_from_another_host() -> None:
    """Scripts, styles, pictures, fonts and hints are files of the site."""
    loaded = {(page, address) for page in all_pages() for address in read_page(page).loaded}
    assert len(loaded) > 100
    foreign = [f"{page.relative_to(SITE)}: {address}" for page, address in sorted(loaded) if not is_local(address)]
    assert foreign == []
    absent = [
        f"{page.relative_to(SITE)}: {address}"
        for page, address in sorted(loaded)
        if page != NOT_FOUND and is_local(address) and not (page.parent / unquote(urlsplit(address).path)).exists()
    ]
    assert absent == []


def test_a_dead_link_is_found() -> None:
    """The tests above can fail."""
    page = SITE / "docs" / "settings.html"
    assert leads_somewhere(page, "security.html#grpc")
    assert not leads_somewhere(page, "security.html#no-such-place")
    assert not leads_somewhere(page, "no-such-page.html")
    assert not is_local("https://example.org/font.woff2")


def test_every_document_has_a_page_with_a_title() -> None:
    """A new document needs no edit of the site."""
    documents = [path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")]
    named = [document.with_stem("index") if document.stem == "README" else document for document in documents]
    pages = [SITE / document.with_suffix(".html") for document in named]
    assert [page.name for page in pages if not page.is_file()] == []
    assert [page.name for page in pages if len(read_page(page).headings) != 1] == []


def test_the_references_are_complete() -> None:
    """What ``gsi`` exports, every command, and every call of the contract."""
    sdk = read_page(SITE / "reference" / "sdk.html")
    assert {f"{place}.{name}" for name, place in gsi._PLACES.items()} <= sdk.ids
    cli = (SITE / "reference" / "cli.html").read_text()
    assert [name for name in COMMANDS if f">gsi {name}<" not in cli] == []
    contract = (SITE / "reference" / "grpc.html").read_text()
    protos = "".join(path.read_text() for path in (ROOT / "protos").rglob("*.proto"))
    calls = [line.split()[1].partition("(")[0] for line in protos.splitlines() if line.strip().startswith("rpc ")]
    assert len(calls) >= 5
    assert [call for call in calls if f"<code>{call}</code>" not in contract] == []
