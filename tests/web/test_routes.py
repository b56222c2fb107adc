"""What holds on every route: no serious fault for axe-core, in light and dark; 380 pixels are enough; a title."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.gateway.system import Gateway, Models
from tests.web.browser import NARROW, faults, is_wider_than_its_window, quiet_page
from tests.web.made_evaluation import write_evaluation

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANSWER = r"First $x^2$ is {4 (0.8)/5 (0.3)}. |!Second. |The answer is \boxed{20}"
STYLES = """() => [...document.querySelectorAll("link[rel=stylesheet]")]
  .filter(each => each.media !== "not all").map(each => each.href.split("/").at(-1))"""
PATTERNS = """async () => (await import("/page/routes.js")).ROUTES.map(each => each.pattern.source)"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def full(models: Models, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway with an evaluation."""
    folder = tmp_path_factory.mktemp("evaluations")
    write_evaluation(folder / "made")
    async with models.gateway("full", {"GSI_GATEWAY_EVALUATIONS": str(folder)}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def views(full: Gateway) -> Sequence[str]:
    """The address of each view, with something to show."""
    params = {"n": 4, "seed": 1, "keep_candidates": True}
    job = await full.jobs.submit({"prompt": ANSWER, "params": params})
    beams = await full.jobs.submit({"prompt": ANSWER, "params": {**params, "method": "beam-search"}})
    failed = await full.jobs.submit({"prompt": "unreadable", "params": {"max_steps": 1}})
    for each in (job, beams, failed):
        await full.jobs.wait(each)
    jobs = ("/jobs", f"/jobs/{job}", f"/jobs/{job}/step/1", f"/jobs/{beams}", f"/jobs/{failed}", "/jobs/none")
    return ("/", *jobs, "/queue", "/evaluations", "/evaluations/made", "/evaluations/none", "/nowhere")


async def open_view(page: Page, view: str) -> None:
    """Open a view, and wait until it shows what it has."""
    await page.goto("about:blank")
    await page.goto(f"/#{view}")
    await expect(page.get_by_role("main")).not_to_be_empty()
    await expect(page.locator(".loading")).to_have_count(0)
    await page.wait_for_load_state("networkidle")


@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": NARROW}],
    ids=["light", "dark", "narrow"],
)
async def test_every_view_is_accessible_and_fits(
    browser: Browser, full: Gateway, views: Sequence[str], options: dict[str, Any]
) -> None:
    """Colours have their contrast, controls their names, and nothing must be scrolled sideways."""
    found: dict[str, Any] = {}
    async with quiet_page(browser, full.url, **options) as page:
        for view in views:
            await open_view(page, view)
            found[view] = (await faults(page), await is_wider_than_its_window(page))
            assert (await page.title()).endswith("GSI")
    assert found == dict.fromkeys(views, ([], False))


async def test_no_route_is_left_out(page: Page, views: Sequence[str]) -> None:
    """A new route takes its place among those above."""
    await page.goto("/")
    for pattern in await page.evaluate(PATTERNS):
        assert await page.evaluate(
            "([pattern, views]) => views.some(view => RegExp(pattern).test(view))", [pattern, views]
        )


async def test_a_view_brings_its_styles_and_takes_them_away(page: Page, views: Sequence[str]) -> None:
    """Two views may use one class for different things."""
    await page.goto("/#/")
    await expect(page.get_by_label("Question")).to_be_visible()
    first = await page.evaluate(STYLES)
    await page.get_by_role("link", name="Jobs").click()
    await expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    second = await page.evaluate(STYLES)
    await page.get_by_role("link", name="Playground", exact=True).click()
    await expect(page.get_by_label("Question")).to_be_visible()
    assert (first, second) == (["app.css", "playground.css"], ["app.css", "jobs.css"])
    assert await page.evaluate(STYLES) == first


async def test_moving_to_a_view_moves_the_focus_and_the_title(page: Page) -> None:
    """As a page that is loaded would."""
    await page.goto("/#/")
    await expect(page).to_have_title("Playground · GSI")
    await page.get_by_role("link", name="Queue").click()
    await expect(page).to_have_title("Queue · GSI")
    await expect(page.get_by_role("main")).to_be_focused()
    await expect(page.get_by_role("link", name="Queue")).to_have_attribute("aria-current", "page")
    await page.go_back()
    await expect(page).to_have_title("Playground · GSI")
