"""The view of a queue: what waits and who works, rates that grow, pause and resume, dead letters that are retried."""

import re
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
        await opened.goto("/#/queue")
        await expect(opened.get_by_role("heading", name="Queue")).to_be_visible()
        yield opened


async def submit(idle: Gateway, prompt: str, **fields: Any) -> str:
    async with idle.http() as http:
        answer = await http.post("/gsi/v1/jobs", json={"model": "gsi", "prompt": prompt, **fields})
    job_id: str = answer.json()["id"]
    return job_id


def cells(page: Page, table: str, row: str) -> Locator:
    return page.get_by_role("region", name=table).get_by_role("row").filter(has_text=row).get_by_role("cell")


async def test_lanes_and_coordinators_are_shown_live(idle_page: Page, idle: Gateway, waiting: IdleQueue) -> None:
    """A job waits in its lane, then its coordinator holds it, by a link to its trace."""
    job_id = await submit(idle, "a", priority="high")
    high = cells(idle_page, "Lanes", "high")
    await expect(high.nth(2)).to_have_text("1", timeout=SOON)
    await expect(high.nth(3)).to_contain_text(" s")
    await waiting.take(job_id)
    await expect(high.nth(2)).to_have_text("0", timeout=SOON)
    await expect(high.nth(1)).to_have_text("1")
    held = cells(idle_page, "Coordinators", "worker-1").get_by_role("link", name=job_id)
    await expect(held).to_have_attribute("href", f"#/jobs/{job_id}")


async def test_rates_grow_while_the_page_is_open(idle_page: Page, idle: Gateway, waiting: IdleQueue) -> None:
    """The chart says in words what it draws; each look adds a point."""
    chart = idle_page.get_by_role("img", name="Since this page was opened")
    await expect(chart).to_have_accessible_name(re.compile("opened, 3 looks"), timeout=SOON)
    await expect(chart.locator("canvas")).to_be_visible()
    job_id = await submit(idle, "b")
    await waiting.answer(job_id, "5")
    await expect(idle_page.get_by_text("1 succeeded")).to_be_visible(timeout=SOON)


async def test_a_queue_is_paused_and_resumed_after_a_question(idle_page: Page, idle: Gateway) -> None:
    """No changes nothing; the state stands beside the name."""
    await idle_page.get_by_role("button", name="Pause…").click()
    await idle_page.get_by_role("button", name="No").click()
    assert not (await _look(idle))["is_paused"]
    await idle_page.get_by_role("button", name="Pause…").click()
    await idle_page.get_by_role("button", name="Pause", exact=True).click()
    await expect(idle_page.get_by_text("paused", exact=True)).to_be_visible()
    assert (await _look(idle))["is_paused"]
    await idle_page.get_by_role("button", name="Resume…").click()
    await idle_page.get_by_role("button", name="Resume", exact=True).click()
    await expect(idle_page.get_by_text("open", exact=True)).to_be_visible()
    assert not (await _look(idle))["is_paused"]


async def test_a_dead_letter_is_retried(idle_page: Page, idle: Gateway, waiting: IdleQueue) -> None:
    """It says why and how often it was tried; retried, it is gone from the letters, and waits."""
    job_id = await submit(idle, "c")
    await waiting.kill(job_id, "the PRM is away")
    letter = cells(idle_page, "Dead letters", job_id)
    await expect(letter.nth(1)).to_contain_text("the PRM is away", timeout=SOON)
    await expect(letter.nth(2)).to_have_text("1")
    await idle_page.get_by_role("button", name=f"Retry job {job_id}").click()
    await expect(idle_page.get_by_text("None: no job was given up.")).to_be_visible()
    await waiting.answer(job_id, "5")
    async with idle.http() as http:
        assert (await http.get(f"/gsi/v1/jobs/{job_id}")).json()["job"]["answer"] == "5"


async def test_only_a_key_that_operates_may_pause(browser: Browser, models: Models, waiting: IdleQueue) -> None:
    """Another sees the counts of the whole queue, and of the jobs its tenant's alone."""
    async with open_api_keys(models.redis_url) as keys:
        secrets = {
            right: (await keys.create(right, tenant="acme" if right is Right.OPERATE else right, right=right))[0]
            for right in Right
        }
    settings = {"GSI_GATEWAY_QUEUE": waiting.name, "GSI_GATEWAY_KEYS": "true"}
    async with models.gateway("queue-rights", settings) as guarded:
        async with guarded.http(secrets[Right.OPERATE]) as http:
            job_id = (await http.post("/gsi/v1/jobs", json={"model": "gsi", "prompt": "d"})).json()["id"]
        await waiting.kill(job_id, "the target is away")
        for right, secret in secrets.items():
            is_operator = right is Right.OPERATE
            async with quiet_page(browser, guarded.url, secret) as page:
                await page.goto("/#/queue")
                await expect(page.get_by_role("region", name="Lanes", exact=True).first).to_be_visible()
                await expect(page.get_by_role("button", name="Pause…")).to_have_count(int(is_operator))
                await expect(page.get_by_role("button", name=f"Retry job {job_id}")).to_have_count(int(is_operator))
                await expect(page.get_by_text("None of your tenant.")).to_have_count(int(not is_operator))
            async with guarded.http(secret) as http:
                assert (await http.post("/gsi/v1/queue/resume")).status_code == (200 if is_operator else 403)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_queue_can_be_read_by_everyone(
    browser: Browser, idle: Gateway, waiting: IdleQueue, scheme: Any
) -> None:
    """In both themes axe-core finds nothing serious, also in a question, and 380 px are enough."""
    await waiting.kill(await submit(idle, "e"), "a reason that is long " * 10)
    for viewport in ({"width": 1280, "height": 900}, NARROW):
        async with quiet_page(browser, idle.url, color_scheme=scheme, viewport=viewport) as page:
            await page.goto("/#/queue")
            await expect(page.get_by_role("img", name="Since this page was opened")).to_be_visible()
            assert await faults(page) == []
            assert not await is_wider_than_its_window(page)
            await page.get_by_role("button", name="Pause…").click()
            await expect(page.get_by_role("dialog", name="Pause this queue?")).to_be_visible()
            assert await faults(page) == []


async def _look(idle: Gateway) -> Any:
    async with idle.http() as http:
        return (await http.get("/gsi/v1/queue")).json()
