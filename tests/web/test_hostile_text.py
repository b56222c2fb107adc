"""Whatever a model, a user or an operator wrote is shown as text: nothing runs, nothing is asked of another host.

Every page here is a quiet one (``tests/web/browser.py``): a script that runs, a dialog, a refusal of the policy or a
request to another host fails the test.
"""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys, Priority
from tests.gateway.system import Gateway, Models
from tests.web.browser import NARROW, faults, is_wider_than_its_window, quiet_page

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The scripted models read "|" and "{a/b}" as their own: hence no slash within braces. https:host is a URL, too.
RUN = "document.title='ran'"
MARKUP = (
    f'<img src="https://evil.example/a.png" onerror="{RUN}">',
    f"<script>{RUN}</script>",
    f'<svg onload="{RUN}"><a href="javascript:{RUN}">x</a></svg>',
    '<style>@import "https://evil.example/a.css"; body { display: none }</style>',
    f'<iframe srcdoc="<script>{RUN}</script>"></iframe>',
    f"[link](javascript:{RUN}) javascript:{RUN} https://evil.example",
    f'"><input autofocus onfocus="{RUN}"> {{{{constructor.constructor("{RUN}")()}}}} ${{{RUN}}}',
    '</textarea></script><meta http-equiv="refresh" content="0;url=https://evil.example">',
)
FORMULAS = (
    rf"$\href{{javascript:{RUN}}}{{x}}$ and \(\url{{https:evil.example}}\)",
    r"\[\includegraphics[width=9em]{https:evil.example}\] \(\htmlStyle{position: fixed}{x}\)",
    r"\(\htmlData{a=b}{x}\) \(\htmlClass{skip}{y}\) \(\def\x{\x\x}\x\) $\rule{1000em}{1000em}$ $\kern{9999em}x$",
)
BIDI = "5 \u202e\u2066 gnorw si siht \u2067 and so on"
LONG = "long" + "x" * 100_000
UNREADABLE = "\ufffd\ufeff\u200b\u0085 &lt;b&gt; &#60;b&#62; \\u003cb\\u003e %3Cb%3E"
HOSTILE = (*MARKUP, *FORMULAS, BIDI, UNREADABLE, LONG)
# Every second step is rejected first, and the answer is hostile.
QUESTION = "|".join("!" * (place % 2) + text for place, text in enumerate((*HOSTILE, r"\boxed{<script>alert(1)}")))
DESCRIPTION = f"{MARKUP[0]} {MARKUP[1]} {MARKUP[4]} {BIDI}"
ERROR = f"{MARKUP[0]} {MARKUP[2]} {FORMULAS[0]} {BIDI}"
TENANT = f"tenant{MARKUP[0]}"

FOREIGN = """() => [...document.querySelectorAll("a[href], area[href]")].map(each => each.getAttribute("href"))
  .filter(href => !href.startsWith("#"))"""
ALIEN = """() => [...document.querySelectorAll(
    "main :is(img[src^='http'], iframe, script, style, meta, object, embed, form[action], [srcdoc])"
  )].map(each => each.outerHTML.slice(0, 200))"""
HANDLERS = """() => [...document.querySelectorAll("*")]
  .filter(each => each.getAttributeNames().some(name => name.startsWith("on")))
  .map(each => each.outerHTML.slice(0, 200))"""
SPILLING = """() => {
  const spilling = [];
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    if (!node.data.includes("\\u202e") || node.parentElement.closest("option, textarea")) continue;
    let element = node.parentElement;
    while (element && !/isolate|plaintext/.test(getComputedStyle(element).unicodeBidi)) element = element.parentElement;
    if (!element || element.matches("main")) spilling.push(node.data.slice(0, 80));
  }
  return spilling;
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hostile(models: Models, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway whose models have a hostile description."""
    presets = tmp_path_factory.mktemp("hostile") / "presets.toml"
    presets.write_text(
        f"[models.gsi]\ndescription = {json.dumps(DESCRIPTION)}\n[models.'gsi:target']\nparams.method = 'target'\n"
    )
    async with models.gateway("hostile", {"GSI_GATEWAY_PRESETS": str(presets)}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def job_id(hostile: Gateway) -> str:
    """A job whose question, steps, rejected steps and candidates are all hostile."""
    submitted = await hostile.jobs.submit({"prompt": QUESTION, "params": {"n": 2, "keep_candidates": True}})
    await hostile.jobs.wait(submitted)
    return submitted


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def failed_id(hostile: Gateway, models: Models) -> str:
    """A job whose error and tenant are hostile, as no program of ours would write them."""
    async with aclosing(connect(models.redis_url)) as client:
        redis: Any = client
        payload = json.dumps({"id": "hostile-failed", "prompt": ERROR, "params": {"method": ERROR}})
        await redis.xadd(Keys(models.queue).lane(Priority.NORMAL), {"job": payload})
        await hostile.jobs.wait("hostile-failed")
        await redis.hset(Keys(models.queue).record("hostile-failed"), mapping={"error": ERROR, "tenant": TENANT})
    return "hostile-failed"


async def check(page: Page) -> None:
    """Nothing ran, nothing leads away, and what was written is text that stays in its place."""
    assert await page.title() != "ran"
    assert await page.evaluate(FOREIGN) == []
    assert await page.evaluate(ALIEN) == []
    assert await page.evaluate(HANDLERS) == []
    assert await page.evaluate(SPILLING) == []
    assert not await is_wider_than_its_window(page)


@pytest.mark.parametrize("options", [{}, {"viewport": NARROW, "color_scheme": "dark"}], ids=["wide", "narrow"])
async def test_a_hostile_answer_grows_as_text(browser: Browser, hostile: Gateway, options: dict[str, Any]) -> None:
    """In the playground, with a hostile model description over it."""
    async with quiet_page(browser, hostile.url, **options) as page:
        await page.goto("/#/")
        await expect(page.get_by_text(DESCRIPTION)).to_be_visible()
        await page.get_by_label("Compare two side by side").uncheck()
        await page.get_by_label("Candidates n").fill("2")
        await page.get_by_label("Question").fill(QUESTION)
        await page.get_by_role("button", name="Run").click()
        await expect(page.locator(".pane-end")).to_be_visible()
        shown = await page.locator(".pane").inner_text()
        for text in (*MARKUP, LONG):
            assert text in shown
        await check(page)
        assert await faults(page) == []


@pytest.mark.parametrize("options", [{}, {"viewport": NARROW}], ids=["wide", "narrow"])
async def test_a_hostile_job_is_text_in_every_view(
    browser: Browser, hostile: Gateway, job_id: str, failed_id: str, options: dict[str, Any]
) -> None:
    """In its trace, at each of its steps, in the list of jobs and in the queue."""
    views = ["/#/jobs", "/#/queue", f"/#/jobs/{failed_id}", f"/#/jobs/{job_id}"]
    views += [f"/#/jobs/{job_id}/step/{place}" for place in (2, len(HOSTILE) - 1)]
    async with quiet_page(browser, hostile.url, **options) as page:
        for view in views:
            await page.goto(view)
            await page.reload()
            await page.wait_for_load_state("networkidle")
            await expect(page.get_by_role("main")).not_to_contain_text("Loading")
            await check(page)
        await page.goto(f"/#/jobs/{failed_id}")
        await expect(page.get_by_role("main")).to_contain_text(MARKUP[0])


async def test_a_hostile_address_is_text(page: Page) -> None:
    """Ids that nobody has, which a link brings."""
    for text in (*MARKUP, BIDI, "%", "%3Cimg%3E", "../../v1/models", "a?b#c", "x" * 5000):
        for address in (
            f"/{text}",
            f"/jobs/x/step/{text}",
            f"/jobs/{quote(text, safe='')}",
            f"/evaluations/{quote(text, safe='')}",
        ):
            await page.goto("about:blank")
            await page.goto(f"/#{address}")
            await expect(page.get_by_role("banner")).to_be_visible()
            await expect(page.get_by_role("main")).not_to_contain_text("Loading")
            await check(page)


async def test_hostile_answers_of_the_api_are_text(browser: Browser, gateway: Gateway) -> None:
    """Names and errors that no gateway gives, should one have been changed on the way."""
    session = {
        "version": MARKUP[0],
        "tenant": TENANT,
        "rights": ["read", "submit", "operate"],
        "needs_key": False,
        "queues": [MARKUP[0]],
        "models": [{"id": MARKUP[0], "queue": MARKUP[1], "params": {"method": MARKUP[2]}, "description": DESCRIPTION}],
        "methods": [MARKUP[1]],
        "has_evaluations": True,
    }
    refusal = {"error": {"message": ERROR, "type": "x", "param": "__proto__", "code": ERROR}}
    async with quiet_page(browser, gateway.url) as page:
        await page.route("**/gsi/v1/**", lambda route: route.fulfill(status=500, json=refusal))
        await page.route("**/gsi/v1/session", lambda route: route.fulfill(json=session))
        for view in ("/", "/jobs", "/jobs/x", "/queue", "/evaluations", "/evaluations/x"):
            await page.goto(f"/#{view}")
            await page.reload()
            await page.wait_for_load_state("networkidle")
            await check(page)
        await page.goto("/#/")
        await page.get_by_role("button", name="Run").click()
        await expect(page.locator(".pane").get_by_text(ERROR)).to_be_visible()
        await check(page)
