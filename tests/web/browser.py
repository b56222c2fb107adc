"""A real Chromium, with pages that must stay quiet: no error, no refusal of the policy, no request elsewhere."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

expect.set_options(timeout=30_000)  # a loaded machine is slow

ROOT = Path(__file__).parents[2]
CHROMIUM = ROOT / ".tools" / "bin" / "chromium"
AXE = (ROOT / "tests" / "web" / "vendor" / "axe-core" / "axe.min.js").read_text()
FLAGS = (
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
REFUSALS = (
    "document.addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
)
STICKING_OUT = """() => [...document.querySelectorAll("body *")]
  .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(each => each.outerHTML.slice(0, 160)).slice(0, 20)"""
SERIOUS = {"serious", "critical"}
NARROW = {"width": 380, "height": 800}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run the browser of ``.tools``."""
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing: make test-web brings it (scripts/tools.sh)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def quiet_page(browser: Browser, url: str, key: str | None = None, **options: Any) -> AsyncIterator[Page]:
    """Open a page of the gateway's in a fresh profile; fail at the end if it made any noise.

    ``options`` go to ``Browser.new_context`` (``viewport``, ``color_scheme``, …). ``key``: the API key of the tab.
    An answer of the API with an error status is no noise: pages show it.
    """
    noise: list[str] = []
    context = await browser.new_context(base_url=url, **options)
    context.set_default_timeout(20_000)
    await context.add_init_script(REFUSALS)
    if key:
        await context.add_init_script(f"if (origin !== 'null') sessionStorage.setItem('gsi-key', {key!r})")
    context.on("request", lambda request: noise.extend(_foreign(request, url)))
    context.on("console", lambda message: noise.extend(_complaint(message)))
    context.on("weberror", lambda error: noise.append(f"uncaught: {error.error}"))
    context.on("dialog", lambda dialog: noise.append(f"dialog: {dialog.message}"))
    page = await context.new_page()
    try:
        yield page
        assert noise == [], noise
    finally:
        await context.close()


def _foreign(request: Request, url: str) -> Sequence[str]:
    asked = urlsplit(request.url)
    is_own = asked.scheme in {"data", "blob"} or asked.netloc == urlsplit(url).netloc
    return [] if is_own else [f"request: {request.url[:200]}"]


def _complaint(message: ConsoleMessage) -> Sequence[str]:
    is_answer = message.text.startswith("Failed to load resource") and "/v1/" in message.location.get("url", "")
    return [f"{message.type}: {message.text}"] if message.type in {"error", "warning"} and not is_answer else []


async def faults(page: Page) -> list[str]:
    """Return axe-core's serious and critical findings of the page as it is: the rule, and the element."""
    await page.evaluate(f"if (!window.axe) {{ {AXE} }}")
    await page.evaluate("Promise.all(document.getAnimations().map(each => each.finished.catch(() => {})))")
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


async def is_wider_than_its_window(page: Page) -> bool:
    """Return whether the page must be scrolled sideways; print what sticks out."""
    is_wider = bool(await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
    if is_wider:
        print("sticks out:", await page.evaluate(STICKING_OUT))
    return is_wider
