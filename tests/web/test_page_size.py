"""How much the first load of the page transfers."""

import asyncio
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Request, expect

from benchmarks.page_size import page_kilobytes
from tests.gateway.system import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOST_KILOBYTES = 300


class Transfers:
    """What a page's files took, headers included, in bytes by path. Requests of the API are left out."""

    def __init__(self, page: Page) -> None:
        self._asked: list[Request] = []
        page.on("requestfinished", self._note)

    def _note(self, request: Request) -> None:
        self._asked.append(request)

    async def take(self) -> dict[str, int]:
        """Return the bytes of the files since the last call."""
        files = [request for request in self._asked if "/v1/" not in request.url]
        self._asked.clear()
        sizes = [await request.sizes() for request in files]
        return {
            urlsplit(request.url).path: size["responseBodySize"] + size["responseHeadersSize"]
            for request, size in zip(files, sizes, strict=True)
        }


async def test_the_first_load_is_small_and_leaves_out_what_other_views_need(page: Page, gateway: Gateway) -> None:
    """Measured in a browser without a cache; the figure of the benchmark, made without a browser, agrees.

    A second load asks for each file by its tag, and transfers none again.
    """
    transfers = Transfers(page)
    await _load(page)
    first = await transfers.take()
    kilobytes = sum(first.values()) / 1000
    assert 10 < kilobytes < MOST_KILOBYTES
    assert not [path for path in first if "katex.min" in path or "uPlot" in path or "trace" in path]
    assert await asyncio.to_thread(page_kilobytes, f"{gateway.url}/") == pytest.approx(kilobytes, rel=0.05)
    await _load(page)
    second = await transfers.take()
    assert set(second) == set(first)
    assert max(second.values()) < 1000


async def _load(page: Page) -> None:
    await page.goto("/")
    await expect(page.get_by_label("Question")).to_be_visible()
    await page.wait_for_load_state("networkidle")
