"""The view of jobs: filtered, searched, watched live, cancelled, retried; nothing to press for a key that reads."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from gsi.client.gateway import open_api_keys
from gsi.jobs.api_keys import Right
from tests.gateway.system import Gateway, Models
from tests.web.browser import NARROW, faults, is_wider_than_its_window, quiet_page
from tests.web.idle_queue import IdleQueue

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOON = 20_000  # milliseconds: a look at the queue comes every two seconds, on a machine that may be busy


@pytest_asyncio.fixture(loop_scope="session")
async def idle_page(browser: Browser, idle: Gateway) -> AsyncIterator[Page]:
    async with quiet_page(browser, idle.url) as opened:
        yield opened


async def submit(gateway: Gateway, prompt: str, **fields: Any) -> str:
    return await gateway.jobs.submit({"prompt": prompt, "params": {"n": 2}} | fields)


def row(page: Page, job_id: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=job_id))


async def test_a_job_is_watched_live_to_its_end(page: Page, gateway: Gateway) -> None:
    """It appears without a reload, runs, and has its answer, steps and acceptance in the end."""
    await page.goto("/#/jobs")
    await expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    job_id = await submit(gateway, r"~~One. |~!Two. |~~\boxed{42}")
    await expect(row(page, job_id)).to_contain_text("running", timeout=SOON)
    await expect(row(page, job_id)).to_contain_text("succeeded", timeout=SOON)
    for text in ("42", "gsi", "67 %", "default"):
        await expect(row(page, job_id)).to_contain_text(text)
    await page.get_by_role("link", name=job_id).click()
    await expect(page).to_have_url(f"{gateway.url}/#/jobs/{job_id}")


async def test_filters_and_search_are_in_the_address(page: Page, gateway: Gateway, browser: Browser) -> None:
    """Whoever opens the same address sees the same jobs."""
    first = await submit(gateway, "a question about otters")
    second = await submit(gateway, "Otters, by the draft alone", params={"n": 1, "method": "draft"})
    other = await submit(gateway, "something else")
    await page.goto("/#/jobs")
    await expect(row(page, other)).to_be_visible(timeout=SOON)
    await page.get_by_label("Part of an id or of a prompt").fill("otters")
    await expect(row(page, other)).to_have_count(0)
    await expect(row(page, first)).to_be_visible()
    await page.get_by_label("Method").select_option("draft")
    await expect(row(page, first)).to_have_count(0)
    await expect(row(page, second)).to_be_visible()
    await page.get_by_label("State").select_option("SUCCEEDED")
    assert page.url == f"{gateway.url}/#/jobs?q=otters&method=draft&state=SUCCEEDED"
    async with quiet_page(browser, gateway.url) as shared:
        await shared.goto(page.url)
        await expect(row(shared, second)).to_be_visible(timeout=SOON)
        await expect(shared.get_by_label("Part of an id or of a prompt")).to_have_value("otters")
        await expect(row(shared, first)).to_have_count(0)
        await shared.get_by_label("Part of an id or of a prompt").fill("no job has this")
        await expect(shared.get_by_text("No job is like that")).to_be_visible()
        await shared.get_by_role("link", name="Show all jobs").click()
        await expect(row(shared, other)).to_be_visible()


async def test_a_dead_job_says_why_and_is_retried_to_its_end(
    idle_page: Page, idle: Gateway, waiting: IdleQueue
) -> None:
    """The reason stands in its row; retried, it waits, and is answered."""
    job_id = await _submit_waiting(idle, "2 + 3")
    await waiting.kill(job_id, f"the draft is away {'for a long while ' * 20}indeed")
    await idle_page.goto("/#/jobs?state=DEAD")
    dead = row(idle_page, job_id)
    await expect(dead).to_contain_text("the draft is away")
    await expect(dead.get_by_text("indeed")).not_to_be_visible()
    await dead.locator("summary").click()
    await expect(dead.get_by_text("indeed")).to_be_visible()
    await idle_page.get_by_label("State").select_option("")
    await idle_page.get_by_role("button", name=f"Retry job {job_id}").click()
    await expect(row(idle_page, job_id)).to_contain_text("queued")
    await waiting.answer(job_id, "5")
    await expect(row(idle_page, job_id)).to_contain_text("succeeded", timeout=SOON)
    await expect(idle_page.get_by_role("button", name=f"Retry job {job_id}")).to_have_count(0)


async def test_a_job_is_cancelled_after_a_question(idle_page: Page, idle: Gateway) -> None:
    """Escape and No change nothing."""
    job_id = await _submit_waiting(idle, "never mind")
    await idle_page.goto("/#/jobs")
    cancel = idle_page.get_by_role("button", name=f"Cancel job {job_id}")
    await cancel.click()
    await expect(idle_page.get_by_role("dialog", name="Cancel this job?")).to_be_visible()
    await idle_page.keyboard.press("Escape")
    await expect(idle_page.get_by_role("dialog")).to_have_count(0)
    await cancel.click()
    await idle_page.get_by_role("button", name="No").click()
    await expect(row(idle_page, job_id)).to_contain_text("queued")
    await cancel.click()
    await idle_page.get_by_role("button", name="Cancel the job").click()
    await expect(row(idle_page, job_id)).to_contain_text("cancelled on the web page")
    await expect(idle_page.get_by_role("status").filter(has_text=f"Job {job_id} is cancelled.")).to_be_attached()


async def test_a_list_that_is_looked_at_keeps_the_focus(idle_page: Page, idle: Gateway) -> None:
    """A look every two seconds takes the focus from no button; a hidden tab does not look."""
    job_id = await _submit_waiting(idle, "focus")
    await idle_page.goto("/#/jobs")
    cancel = idle_page.get_by_role("button", name=f"Cancel job {job_id}")
    await cancel.focus()
    async with idle_page.expect_response(lambda answer: "/gsi/v1/jobs" in answer.url, timeout=SOON):
        pass
    async with idle_page.expect_response(lambda answer: "/gsi/v1/jobs" in answer.url, timeout=SOON):
        pass
    await expect(cancel).to_be_focused()
    asked: list[str] = []
    await idle_page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
    await idle_page.wait_for_timeout(300)  # an answer that was on its way
    idle_page.on("request", lambda request: asked.append(request.url))
    await idle_page.wait_for_timeout(3000)
    assert asked == []


async def test_a_key_that_reads_sees_no_buttons(browser: Browser, models: Models, waiting: IdleQueue) -> None:
    """And is refused by the gateway, whatever the page shows; nor does it see another tenant's job."""
    async with open_api_keys(models.redis_url) as keys:
        reads, _ = await keys.create("reads", tenant="acme", right=Right.READ)
        submits, _ = await keys.create("submits", tenant="acme")
        foreign, _ = await keys.create("foreign", tenant="other")
    settings = {"GSI_GATEWAY_QUEUE": waiting.name, "GSI_GATEWAY_KEYS": "true"}
    async with models.gateway("idle-rights", settings) as guarded:
        async with guarded.http(submits) as http:
            answer = await http.post("/gsi/v1/jobs", json={"model": "gsi", "prompt": "whose?"})
        job_id = answer.json()["id"]
        for secret, is_seen, num_buttons in ((reads, 1, 0), (submits, 1, 1), (foreign, 0, 0)):
            async with quiet_page(browser, guarded.url, secret) as page:
                await page.goto(f"/#/jobs?q={job_id}")
                await expect(page.get_by_role("search")).to_be_visible()
                await expect(page.locator(".cards, .empty")).to_be_visible()
                await expect(row(page, job_id)).to_have_count(is_seen)
                await expect(page.get_by_role("button", name=f"Cancel job {job_id}")).to_have_count(num_buttons)
                await expect(page.get_by_label("Tenant")).to_have_count(0)
        async with guarded.http(reads) as http:
            assert (await http.post(f"/gsi/v1/jobs/{job_id}/cancel")).status_code == 403


async def test_hostile_text_is_text(page: Page, gateway: Gateway) -> None:
    """Of a prompt, an answer and an error, in the table as everywhere."""
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    job_id = await submit(gateway, rf"{evil} \boxed{{<b>5</b>}}")
    await page.goto("/#/jobs")
    await expect(row(page, job_id)).to_contain_text("<img src=x onerror=alert(1)>", timeout=SOON)
    assert await row(page, job_id).locator("img, script, b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_table_can_be_read_by_everyone(browser: Browser, gateway: Gateway, scheme: Any) -> None:
    """In both themes axe-core finds nothing serious, and 380 px are enough."""
    job_id = await submit(gateway, r"A long question of a person who writes very much. |\boxed{7}")
    await submit(gateway, "fails", params={"n": 1, "method": "draft", "max_tokens": 1})
    for viewport in ({"width": 1280, "height": 900}, NARROW):
        async with quiet_page(browser, gateway.url, color_scheme=scheme, viewport=viewport) as page:
            await page.goto("/#/jobs")
            await expect(row(page, job_id)).to_contain_text("succeeded", timeout=SOON)
            assert await faults(page) == []
            assert not await is_wider_than_its_window(page)


async def _submit_waiting(idle: Gateway, prompt: str) -> str:
    """Submit to the queue that the test works on."""
    async with idle.http() as http:
        answer = await http.post("/gsi/v1/jobs", json={"model": "gsi", "prompt": prompt})
    job_id: str = answer.json()["id"]
    return job_id
