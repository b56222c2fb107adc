"""The built site in a real Chromium: it makes no request elsewhere, its search finds, its diagrams are drawn."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.site.conftest import ROOT, SITE

CHROMIUM = ROOT / ".tools" / "bin" / "chromium"
VISITED = (
    "index.html",
    "start.html",
    "docs/settings.html",
    "docs/lifecycle.html",
    "helm/index.html",
    "reference/sdk.html",
    "reference/cli.html",
    "reference/grpc.html",
    "examples/own_rule.py.html",
)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the library's)
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(SITE))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


@pytest.fixture
def requests() -> list[str]:
    """The address of every request."""
    return []


@pytest.fixture
def page(browser: Browser, address: str, requests: list[str]) -> Iterator[Page]:
    """A page that must make no request elsewhere and have no error."""
    errors: list[str] = []
    opened = browser.new_page(base_url=address)
    opened.set_default_timeout(60_000)
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield opened
    opened.close()
    assert [each for each in requests if not each.startswith((address, "data:", "blob:"))] == []
    assert errors == []


@pytest.mark.parametrize("name", VISITED)
def test_a_page_loads_from_the_site_alone(page: Page, requests: list[str], name: str) -> None:
    """It shows a heading, and the browser asked no other host for anything."""
    page.goto(f"/{name}", wait_until="networkidle")
    expect(page.locator("article h1").first).to_be_visible()
    assert len(requests) > 3


def test_the_first_page_says_what_gsi_is(page: Page) -> None:
    """At the width of a phone, too: the sentence, what was measured and the ways in, and nothing beyond the edge."""
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto("/index.html")
    expect(page.locator("h1")).to_contain_text("A large model checks every step.")
    expect(page.locator(".home-measured strong")).to_contain_text("times as fast as the target alone")
    assert page.locator(".home-reader a").count() >= 15
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_picture_follows_the_scheme_that_the_reader_chose(browser: Browser, address: str) -> None:
    """Whatever the system prefers: the button of the theme decides."""
    page = browser.new_page(base_url=address, color_scheme="light")
    for name in ("index.html", "start.html"):
        page.goto(f"/{name}")
        for is_dark in (False, True):
            expect(page.locator("img[src*='gain-dark']")).to_be_visible(visible=is_dark)
            expect(page.locator("img[src*='gain-light']")).to_be_visible(visible=not is_dark)
            page.locator("label.md-header__button[for^='__palette']:visible").click()
    page.close()


def test_the_search_finds(page: Page) -> None:
    """A setting's name leads to a page that has it."""
    page.goto("/index.html")
    page.locator("input.md-search__input").fill("GSI_COORDINATOR_LEASE_SECONDS")
    result = page.locator(".md-search-result__link").first
    expect(result).to_be_visible()
    result.click()
    expect(page.locator("article")).to_contain_text("LEASE_SECONDS")


def test_the_diagram_of_states_is_drawn(page: Page) -> None:
    """By Mermaid from the site's own copy."""
    page.goto("/docs/lifecycle.html")
    expect(page.locator("div.mermaid")).to_be_visible()
    assert page.locator("div.mermaid").evaluate("each => each.clientHeight") > 100
