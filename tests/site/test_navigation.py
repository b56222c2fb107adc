"""Where a reader finds a document."""

import re

from tests.site.conftest import ROOT, SITE, read_page


def test_every_document_is_in_the_navigation() -> None:
    """Also a document that nobody has placed, and every decision."""
    start = set(read_page(SITE / "start.html").links)
    decisions = set(read_page(SITE / "docs" / "decisions" / "index.html").links)
    guides = [path.with_suffix(".html").name for path in (ROOT / "docs" / "deploy").glob("[a-z]*.md")]
    documents = sorted([*guides, *(path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md"))])
    in_more = set(read_page(SITE / "CHANGELOG.html").links)
    readers = [SITE / name for name in ("docs/sdk.html", "docs/settings.html", "CONTRIBUTING.html")]
    shown = {re.sub(r".*/", "", link) for page in readers for link in read_page(page).links}
    shown |= {re.sub(r".*/", "", link) for link in start | in_more}
    assert [name for name in documents if name not in shown] == []
    numbered = {path.with_suffix(".html").name for path in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert numbered <= {re.sub(r".*/", "", link) for link in decisions}
