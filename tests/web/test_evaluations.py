"""The view of evaluations: a folder of `gsi eval` as a page; nothing beside it can be reached."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from services.gateway.errors import ApiError
from services.gateway.gsi_api.evaluations import PNG_HEAD, Evaluations
from tests.gateway.system import Gateway, Models
from tests.web.browser import NARROW, faults, is_wider_than_its_window, quiet_page
from tests.web.made_evaluation import write_evaluation

pytestmark = pytest.mark.asyncio(loop_scope="session")

DONE, OPEN = "arithmetic-aa11bb22", "arithmetic-cc33dd44"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations, one of which has no report yet; and what must not be shown."""
    root = tmp_path_factory.mktemp("evaluations") / "shown"
    write_evaluation(root / DONE)
    write_evaluation(root / OPEN, is_finished=False)
    secret = root.parent / "secret"
    write_evaluation(secret)
    (secret / "plot.png").write_bytes(PNG_HEAD + b"secret")
    (root / "linked").symlink_to(secret)
    (root / DONE / "linked.png").symlink_to(secret / "plot.png")
    (root / DONE / "text.png").write_bytes(b"no image")
    (root / DONE / "page.html").write_text("<script>alert(1)</script>")
    (root / "notes").mkdir()
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(models: Models, folder: Path) -> AsyncIterator[Gateway]:
    async with models.gateway("evaluations", {"GSI_GATEWAY_EVALUATIONS": str(folder)}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, gateway: Gateway) -> AsyncIterator[Page]:
    async with quiet_page(browser, gateway.url) as opened:
        yield opened


async def test_the_folders_are_listed(page: Page) -> None:
    """Those of `gsi eval` alone, with whether the report is written."""
    await page.goto("/#/evaluations")
    rows = page.get_by_role("row")
    await expect(rows).to_have_count(3)
    await expect(rows.filter(has_text=DONE)).to_contain_text("written")
    await expect(rows.filter(has_text=OPEN)).to_contain_text("not yet")
    await page.get_by_role("link", name=OPEN).click()
    await expect(page.get_by_text("No report yet")).to_be_visible()


async def test_an_evaluation_is_a_page(page: Page) -> None:
    """Its settings, accuracies with intervals, seconds, tokens and acceptance, pairs, and its plots."""
    await page.goto(f"/#/evaluations/{DONE}")
    await expect(page.get_by_text("12, each with 1 seed")).to_be_visible()
    figures = page.get_by_role("region", name="Accuracy, time and tokens of each method")
    gsi = figures.get_by_role("row").filter(has=page.get_by_text("gsi", exact=True))
    await expect(gsi).to_contain_text("75.0 [42.8, 94.5]")
    await expect(gsi).to_contain_text("83.3 [62.6, 95.3]")
    await expect(gsi.get_by_role("cell").nth(7)).to_have_text("2.00")
    name = re.compile(r"gsi, n = 4: 75\.0 \[42\.8, 94\.5\] %; rsd")
    await expect(page.get_by_role("img", name="Accuracy with 95 % intervals")).to_have_accessible_name(name)
    await expect(page.get_by_text("\N{MINUS SIGN}25.0 [\N{MINUS SIGN}59.7, +16.8]")).to_be_visible()
    for plot in ("accuracy over flops", "rewards of steps"):
        image = page.get_by_role("img", name=f"Plot: {plot}")
        await expect(image).to_be_visible()
        assert await image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


async def test_a_name_that_does_not_exist_is_said(page: Page) -> None:
    """With a way back."""
    await page.goto("/#/evaluations/nothing")
    await expect(page.get_by_role("alert")).to_contain_text("no evaluation nothing")
    await page.get_by_role("link", name="All evaluations").click()
    await expect(page.get_by_role("link", name=DONE)).to_be_visible()


async def test_an_image_has_its_type_and_nothing_else(gateway: Gateway, folder: Path) -> None:
    """So that a browser takes it for nothing else."""
    async with gateway.http() as http:
        names = (await http.get(f"/gsi/v1/evaluations/{DONE}")).json()["images"]
        answer = await http.get(f"/gsi/v1/evaluations/{DONE}/images/{names[0]}")
    assert "linked.png" not in names
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == (folder / DONE / names[0]).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "linked",
        "..",
        "%2e%2e",
        "..%2fsecret",
        "%2fetc",
        "notes",
        f"{DONE}/images/linked.png",
        f"{DONE}/images/text.png",
        f"{DONE}/images/page.html",
        f"{DONE}/images/run.json",
        f"{DONE}/images/..%2f..%2fsecret%2fplot.png",
        f"{DONE}/images/%2e%2e",
        "linked/images/plot.png",
        "%2e%2e/images/plot.png",
    ],
)
async def test_nothing_beside_the_folder_can_be_reached(gateway: Gateway, path: str) -> None:
    """Neither by a name nor by a link, and no file that is not an image."""
    async with gateway.http() as http:
        answer = await http.get(f"/gsi/v1/evaluations/{path}")
    assert (answer.status_code, b"secret" in answer.content and b"IHDR" in answer.content) == (404, False)


@pytest.mark.parametrize("name", ["..", ".", "", "../secret", "/etc", "linked", "a/b", "a\\b", "x" * 101, "a\0b"])
async def test_no_name_leads_out(folder: Path, name: str) -> None:
    """Whatever the router lets through."""
    evaluations = Evaluations(folder)
    with pytest.raises(ApiError):
        evaluations.read(name)
    for image in ("plot.png", "../plot.png", "/etc/passwd", "..", ""):
        with pytest.raises(ApiError):
            evaluations.read_image(name, image)


async def test_without_a_folder_the_page_says_how_to_set_one(browser: Browser, models: Models) -> None:
    """And the API lists none."""
    async with models.gateway("no-evaluations") as gateway, quiet_page(browser, gateway.url) as page:
        await page.goto("/#/evaluations")
        await expect(page.get_by_text("GSI_GATEWAY_EVALUATIONS")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_evaluation_can_be_read_by_everyone(browser: Browser, gateway: Gateway, scheme: Any) -> None:
    """In both themes axe-core finds nothing serious, and 380 px are enough."""
    for viewport in ({"width": 1280, "height": 900}, NARROW):
        async with quiet_page(browser, gateway.url, color_scheme=scheme, viewport=viewport) as page:
            for path in ("/#/evaluations", f"/#/evaluations/{DONE}"):
                await page.goto(path)
                await expect(page.get_by_role("region").first).to_be_visible()
                assert await faults(page) == []
                assert not await is_wider_than_its_window(page)
