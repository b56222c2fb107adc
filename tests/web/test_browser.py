"""The tests' own browser: what a page must not do, and how it is noticed."""

import asyncio
from contextlib import suppress

import pytest
from playwright.async_api import Browser, Dialog, Error, expect

from tests.gateway.system import Gateway
from tests.web.browser import faults, is_wider_than_its_window, quiet_page

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("deed", "noise"),
    [
        ("console.error('a fault')", "error: a fault"),
        ("setTimeout(() => { throw new Error('nobody catches it') })", "uncaught: nobody catches it"),
        ("setTimeout(() => alert('here'))", "dialog: here"),
        ("fetch('https://evil.example').catch(() => {})", "connect-src"),
        ("new Image().src = 'https://evil.example/x.png'", "img-src"),
        ("document.body.setAttribute('style', 'color: red')", "style-src"),
        ("document.querySelector('main').innerHTML = '<b>a text becomes markup</b>'", "require-trusted-types-for"),
        ("document.createElement('script').textContent = 'run()'", "require-trusted-types-for"),
    ],
)
async def test_noise_fails_a_test(browser: Browser, gateway: Gateway, deed: str, noise: str) -> None:
    """And each of these is noise."""
    is_noisy = asyncio.Event()

    def note(text: str) -> None:
        if noise in text:  # Chromium says some refusals twice, and the policy's name comes second
            is_noisy.set()

    async def dismiss(dialog: Dialog) -> None:
        await dialog.dismiss()
        note(f"dialog: {dialog.message}")

    found = ""
    try:
        async with quiet_page(browser, gateway.url) as page:
            page.on("dialog", dismiss)
            page.on("pageerror", lambda error: note(f"uncaught: {error}"))
            page.on("console", lambda message: note(f"{message.type}: {message.text}"))
            await page.goto("/")
            await expect(page.get_by_label("Question")).to_be_visible()
            with suppress(Error):  # the policy throws
                await page.evaluate(f"() => {{ {deed} }}")
            await is_noisy.wait()
    except AssertionError as error:
        found = str(error)
    assert noise in found


async def test_a_fault_for_axe_core_and_a_wide_page_are_found(browser: Browser, gateway: Gateway) -> None:
    """The checks of every route can fail."""
    async with quiet_page(browser, gateway.url) as page:
        await page.goto("/")
        await expect(page.get_by_label("Question")).to_be_visible()
        await page.evaluate(
            """() => {
                const unnamed = document.querySelector("main").appendChild(document.createElement("input"));
                unnamed.style.width = "3000px";
                unnamed.style.position = "absolute";
            }"""
        )
        assert [each for each in await faults(page) if each.startswith("label:")]
        assert await is_wider_than_its_window(page)
