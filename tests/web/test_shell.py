"""The shell of the page: what is sent, and how the page is moved around in."""

import gzip

import pytest
from playwright.async_api import Page, Request, Route, expect

from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_and_its_files_have_the_headers_that_keep_a_browser_in(gateway: Gateway) -> None:
    """Nothing but the page's own files runs, and no text becomes markup."""
    async with gateway.http() as http:
        for path in ("/", "/page/app.js", "/page/vendor/katex/fonts/KaTeX_Main-Regular.woff2", "/page/methods.json"):
            answer = await http.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/app.css", "text/css; charset=utf-8"),
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/methods.json", "application/json"),
        ("/page/vendor/katex/fonts/KaTeX_Main-Regular.woff2", "font/woff2"),
    ],
)
async def test_a_file_has_its_type(gateway: Gateway, path: str, kind: str) -> None:
    """A browser that may not guess needs it."""
    async with gateway.http() as http:
        assert (await http.get(path)).headers["content-type"] == kind


async def test_a_browser_that_has_a_file_gets_no_second_copy(gateway: Gateway) -> None:
    """304 by its tag, also as a weak one, and HEAD without the content."""
    async with gateway.http() as http:
        first = await http.get("/page/app.js")
        for tag in (first.headers["etag"], f"W/{first.headers['etag']}", f'"x", {first.headers["etag"]}'):
            again = await http.get("/page/app.js", headers={"if-none-match": tag})
            assert (again.status_code, again.content) == (304, b"")
        other = await http.get("/page/app.js", headers={"if-none-match": '"x"'})
        head = await http.head("/page/app.js")
    assert other.status_code == 200
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])


async def test_files_are_compressed_for_whom_can_read_that(gateway: Gateway) -> None:
    """Not for a client that refuses gzip, and not a font, which is compressed already."""
    async with gateway.http() as http:
        for accepted, encoding in (("gzip, br", "gzip"), ("gzip;q=1.0", "gzip"), ("gzip;q=0", None), ("", None)):
            async with http.stream("GET", "/page/app.css", headers={"accept-encoding": accepted}) as answer:
                sent = b"".join([part async for part in answer.aiter_raw()])
            assert answer.headers.get("content-encoding") == encoding
            assert answer.headers["vary"] == "Accept-Encoding"
            assert b"--paper" in (gzip.decompress(sent) if encoding else sent)
        font = await http.get("/page/vendor/katex/fonts/KaTeX_Main-Regular.woff2")
    assert "content-encoding" not in font.headers


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/none.js",
        "/page/../settings.py",
        "/page/%2e%2e/routes.py",
        "/page/vendor/README.md",
        "/page//app.js",
    ],
)
async def test_no_other_file_is_served(gateway: Gateway, path: str) -> None:
    """Neither one outside the folder, nor the notes in it."""
    async with gateway.http() as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


async def test_the_page_can_be_turned_off(models: Models) -> None:
    """The API answers as before."""
    async with models.gateway("no-page", {"GSI_GATEWAY_PAGE": "false"}) as gateway, gateway.http() as http:
        assert [(await http.get(path)).status_code for path in ("/", "/page/app.js")] == [404, 404]
        assert (await http.get("/v1/models")).status_code == 200


async def test_a_view_that_does_not_exist_is_said(page: Page) -> None:
    """With a way back."""
    await page.goto("/#/nowhere")
    await expect(page.get_by_text("There is no such view")).to_be_visible()
    await page.get_by_role("link", name="To the playground").click()
    await expect(page.get_by_text("There is no such view")).not_to_be_visible()


async def test_a_theme_is_chosen_and_kept(page: Page) -> None:
    """Without a choice the system's holds."""
    await page.emulate_media(color_scheme="dark")
    await page.goto("/")
    dark = await _background(page)
    await page.get_by_role("button", name="Theme: system").click()
    light = await _background(page)
    assert light != dark
    await page.reload()
    assert await _background(page) == light
    await page.get_by_role("button", name="Theme: light").click()
    assert await _background(page) == dark


async def _background(page: Page) -> str:
    return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))


async def test_the_skip_link_comes_first(page: Page) -> None:
    """And leads past the navigation."""
    await page.goto("/")
    await expect(page.get_by_role("banner")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()


async def test_the_page_works_under_a_path_of_a_proxy(page: Page, gateway: Gateway) -> None:
    """Which takes the path away: every address of the page is relative."""

    async def take_path_away(route: Route) -> None:
        await route.continue_(url=route.request.url.replace("/app/", "/", 1))

    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url.removeprefix(gateway.url))

    page.on("request", note)
    await page.route("**/app/**", take_path_away)
    await page.goto("/app/")
    await expect(page.get_by_label("Question")).to_be_visible()
    assert "/app/gsi/v1/session" in asked
    assert [url for url in asked if not url.startswith("/app/")] == []
