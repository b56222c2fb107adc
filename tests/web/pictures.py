"""Draw the pictures of the web page for README and docs: ``python -m tests.web.pictures docs/pictures``.

The shipped models really answer, behind the gateway, in a system of their own as ``gsi up`` starts it; the browser
shows what they wrote. A picture is in the reader's light or dark mode (``NAME-dark.png``).
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from playwright.async_api import Browser, FloatRect, Page, expect

from gsi.client.sdk import AsyncClient
from gsi.jobs.reader import JobRecord
from gsi.local.stack import local_stack
from gsi.runtime.installation import SHIPPED_MODELS
from tests.web.browser import chromium, quiet_page

MAX_BYTES = 200_000
WIDTH = 1080
MARGIN = 20
ANSWER_SECONDS = 240  # also on a machine with much else to do
NUM_PROBLEMS, NUM_SEEDS = 16, 8
PARAMS: Mapping[str, Any] = {"keep_candidates": True, "n": 3, "seed": 7}
Scheme = Literal["light", "dark"]
SCHEMES: Sequence[Scheme] = ("light", "dark")


async def draw(folder: Path) -> None:
    """Write the pictures into the folder."""
    with tempfile.TemporaryDirectory() as logs:
        async with _system(Path(logs)) as (url, client), chromium() as browser:
            trace = await _answer_with_rejection(client)
            beams = await _search(client, "beam-search:width=3:expansion=3", 9)
            for scheme in SCHEMES:
                await _draw_trace(browser, url, scheme, trace, folder)
                await _draw_tree(browser, url, scheme, beams, folder)
                await _draw_playground(browser, url, scheme, folder)
                await _draw_jobs(browser, url, scheme, folder)


@asynccontextmanager
async def _system(logs: Path) -> AsyncIterator[tuple[str, AsyncClient]]:
    async with local_stack(logs, lambda *_: None, has_gateway=True) as stack:
        assert stack.gateway_url
        async with AsyncClient(stack.redis_url) as client:
            yield stack.gateway_url, client


def _problems() -> list[tuple[str, str]]:
    """Return the longest held-out problems, in which steps are rejected most often, each with its answer."""
    lines = (SHIPPED_MODELS / "heldout.jsonl").read_text().splitlines()
    problems = [(problem["prompt"], problem["expected"]) for problem in map(json.loads, lines)]
    return sorted(problems, key=lambda problem: -len(problem[0]))[:NUM_PROBLEMS]


async def _answer(client: AsyncClient, seed: int) -> list[JobRecord]:
    """Return the right answers."""
    problems = _problems()
    ids = [await client.submit({"prompt": prompt, "params": {**PARAMS, "seed": seed}}) for prompt, _ in problems]
    records = [await client.wait(job_id) for job_id in ids]
    return [record for record, (_, expected) in zip(records, problems, strict=True) if record.answer == expected]


async def _search(client: AsyncClient, method: str, n: int) -> JobRecord:
    job_id = await client.submit({"prompt": _problems()[1][0], "params": {**PARAMS, "method": method, "n": n}})
    return await client.wait(job_id)


async def _answer_with_rejection(client: AsyncClient) -> JobRecord:
    """Return a right answer in which a step was rejected, of the least reward. Raises RuntimeError if there is none."""
    for seed in range(NUM_SEEDS):
        records = await _answer(client, seed)
        rejected = {record.id: [step.rejected.reward for step in record.steps if step.rejected] for record in records}
        if found := [record for record in records if rejected[record.id]]:
            return min(found, key=lambda record: rejected[record.id][0])
    raise RuntimeError(f"in {NUM_SEEDS} x {NUM_PROBLEMS} answers none was right that had a rejected step")


async def _draw_trace(browser: Browser, url: str, scheme: Scheme, record: JobRecord, folder: Path) -> None:
    number = next(index for index, step in enumerate(record.steps, 1) if step.rejected)
    async with _page(browser, url, scheme, 1500) as page:
        await page.goto(f"/#/jobs/{record.id}/step/{number}")
        await expect(page.locator(f"#step-{number}-panel .candidates").first).to_be_visible()
        await expect(page.locator(f"#step-{number} del")).to_be_visible()
        await _save(page, folder, "trace", scheme, (".prompt", ".answer"))


async def _draw_tree(browser: Browser, url: str, scheme: Scheme, record: JobRecord, folder: Path) -> None:
    async with _page(browser, url, scheme, 1200) as page:
        await page.goto(f"/#/jobs/{record.id}")
        await _save(page, folder, "tree", scheme, (".tree",))


async def _draw_playground(browser: Browser, url: str, scheme: Scheme, folder: Path) -> None:
    async with _page(browser, url, scheme, 900) as page:
        await page.goto("/#/")
        await page.get_by_label("Compare two side by side").check()
        await page.get_by_role("button", name="Pens").click()
        run = page.get_by_role("button", name="Run", exact=False).last
        await run.click()
        await expect(page.get_by_role("button", name="Stop")).to_be_visible()
        await expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=1000 * ANSWER_SECONDS)
        await _save(page, folder, "playground", scheme, (".playground",))


async def _draw_jobs(browser: Browser, url: str, scheme: Scheme, folder: Path) -> None:
    async with _page(browser, url, scheme, 760) as page:
        await page.goto("/#/jobs")
        await expect(page.locator("tbody tr").first).to_be_visible()
        await _save(page, folder, "jobs", scheme)


@asynccontextmanager
async def _page(browser: Browser, url: str, scheme: Scheme, height: int) -> AsyncIterator[Page]:
    size = {"width": WIDTH, "height": height}
    async with quiet_page(browser, url, viewport=size, color_scheme=scheme, reduced_motion="reduce") as page:
        yield page


async def _save(page: Page, folder: Path, name: str, scheme: Scheme, selectors: Sequence[str] = ()) -> None:
    """Write a picture of the page's window, or of some elements; fail if it is too large for a repository."""
    path = folder / f"{name}{'-dark' * (scheme == 'dark')}.png"
    await page.evaluate("document.activeElement?.blur()")
    await page.evaluate("document.fonts.ready")
    if selectors:
        await page.screenshot(path=path, full_page=True, clip=await _area(page, selectors))
    else:
        await page.screenshot(path=path)
    with Image.open(path) as picture:  # a third of the size; this method keeps colours that few pixels have
        picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path)
    if path.stat().st_size > MAX_BYTES:
        raise RuntimeError(f"{path} has {path.stat().st_size:,} bytes; allowed: {MAX_BYTES:,}")


async def _area(page: Page, selectors: Sequence[str]) -> FloatRect:
    """Return the rectangle of the page that holds these elements, with a margin."""
    await page.evaluate("scrollTo(0, 0)")
    boxes = [box for each in selectors if (box := await page.locator(each).bounding_box())]
    left, top = (min(box[side] for box in boxes) - MARGIN for side in ("x", "y"))
    right = max(box["x"] + box["width"] for box in boxes) + MARGIN
    bottom = max(box["y"] + box["height"] for box in boxes) + MARGIN
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))
