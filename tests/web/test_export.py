"""The exports of a trace: the API's document, and one HTML file that needs nothing else and runs nothing."""

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from gsi.jobs.step_record import StepRecord
from tests.gateway.system import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = (
    r"{<script>document.title = 'owned'</script> (0.9)/<b>bold</b> (0.5)} with $x^2$ and \(\text{<img src=x>}\).|"
    r"!<img src=x onerror=alert(1)> </div></section> \href{javascript:alert(1)}{$y$} "
    r"\(\href{javascript:alert(1)}{z}\).|\boxed{<svg onload=alert(1)>}"
)


async def export(page: Page, gateway: Gateway, folder: Path, kind: str, method: str = "gsi") -> Path:
    """Run a job of hostile steps; return its trace as the page saves it."""
    params = {"keep_candidates": True, "n": 4, "seed": 5, "method": method}
    job_id = await gateway.jobs.submit({"prompt": HOSTILE, "params": params})
    await gateway.jobs.wait(job_id)
    await page.goto(f"/#/jobs/{job_id}")
    async with page.expect_download() as download:
        await page.get_by_role("button", name=f"Export {kind}").click()
    found = await download.value
    assert found.suggested_filename == f"{job_id}.{kind.lower()}"
    path = folder / found.suggested_filename
    await found.save_as(path)
    return path


async def test_the_json_is_the_document_of_the_api(page: Page, gateway: Gateway, tmp_path: Path) -> None:
    """Its steps are by docs/step.schema.json."""
    path = await export(page, gateway, tmp_path, "JSON")
    document = json.loads(path.read_text())
    assert (document["job"]["id"], document["job"]["prompt"]) == (path.stem, HOSTILE)
    record = await gateway.jobs.result(path.stem)
    assert [StepRecord.model_validate(step) for step in document["steps"]] == list(record.steps)


@pytest.mark.parametrize(
    ("method", "numbers"),
    [("gsi", "n = 4, β = 20, u = 0.5"), ("majority-vote", "n = 4"), ("beam-search", "n = 4")],
)
async def test_the_html_opens_offline_and_holds_hostile_text_as_text(
    page: Page, browser: Browser, gateway: Gateway, tmp_path: Path, method: str, numbers: str
) -> None:
    """No request, no script, no handler, no link; mathematics as MathML; and only numbers that the method reads."""
    path = await export(page, gateway, tmp_path, "HTML", method)
    context = await browser.new_context(offline=True)
    requests: list[str] = []
    noise: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("dialog", lambda dialog: noise.append(dialog.message))
    opened = await context.new_page()
    await opened.goto(path.as_uri())
    assert requests == [path.as_uri()]
    assert await opened.title() == f"Trace of job {path.stem}"
    assert await opened.locator("script, img, b, svg, a, iframe, [onerror], [onload], [href], [src]").count() == 0
    await expect(opened.get_by_text(f"succeeded; method {method}, {numbers}", exact=True)).to_be_attached()
    await expect(opened.get_by_text("<img src=x onerror=alert(1)>").first).to_be_attached()
    assert await opened.locator("math msup").count() > 0
    policy = opened.locator("meta[http-equiv='Content-Security-Policy']")
    assert await policy.get_attribute("content") == "default-src 'none'; style-src 'unsafe-inline'"
    assert noise == []
    await context.close()


async def test_the_html_has_what_the_trace_has(page: Page, browser: Browser, gateway: Gateway, tmp_path: Path) -> None:
    """The rejected step crossed out with the reason, and the candidates with their figures."""
    path = await export(page, gateway, tmp_path, "HTML")
    opened = await browser.new_page()
    await opened.goto(path.as_uri())
    await expect(opened.locator(".step")).to_have_count(3)
    rejected = opened.locator(".step.target")
    await expect(rejected.locator("del")).to_contain_text("Wrong: ")
    await expect(rejected.locator(".why")).to_contain_text("< u = 0.50")
    await rejected.locator("summary").first.click()
    await expect(rejected.locator("tr.drawn").first).to_contain_text("(drawn)")
    await opened.close()
