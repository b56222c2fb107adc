"""The trace of a job in a real browser: live and later, its figures against the algorithm's, and how it is moved in."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.gateway.system import Gateway, Models
from tests.web.browser import NARROW, faults, is_wider_than_its_window, quiet_page
from tests.web.idle_queue import idle_queue
from tests.web.made_traces import KEPT, ODD, run

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def open_trace(page: Page, job_id: str) -> None:
    await page.goto(f"/#/jobs/{job_id}")
    await expect(page.get_by_role("heading", name=job_id)).to_be_visible()


async def test_the_answer_stands_step_by_step_and_a_rejected_step_is_crossed_out(page: Page, gateway: Gateway) -> None:
    """Where it stood, with the reason, before the target's."""
    await open_trace(page, await run(gateway, ODD))
    steps = page.locator(".step")
    await expect(steps).to_have_count(3)
    second = steps.nth(1)
    await expect(second.get_by_role("button", name="Step 2 target")).to_be_visible()
    await expect(second.locator("del")).to_contain_text("Wrong: Then")
    await expect(second.locator(".why")).to_contain_text("rejected: tilted reward")
    await expect(second.locator(".why")).to_contain_text("< u = 0.50")
    await expect(steps.nth(0).locator("del")).to_have_count(0)
    order = await second.evaluate(
        "step => step.querySelector('del').compareDocumentPosition(step.querySelector('.kept'))"
    )
    assert order & 4  # Node.DOCUMENT_POSITION_FOLLOWING: the kept step comes after


async def test_mathematics_is_set_and_what_is_none_stays_text(page: Page, gateway: Gateway) -> None:
    """By KaTeX, which is loaded for it; a formula that it refuses keeps its source, and money is money.

    The styles of a formula do not offend the page's policy, which would be noise.
    """
    third = r"\boxed{7}, $\vec{v}$, $\fcolorbox{red}{blue}{x}$"
    told = r"It costs $5 and $6. Let $x_1 = \frac{1}{2}$.|Odd: \(\frac{1\).|" + third
    await open_trace(page, await run(gateway, told))
    steps = page.locator(".step-text")
    await expect(steps.nth(0).locator(".katex")).to_have_count(1)
    await expect(steps.nth(0)).to_contain_text("It costs $5 and $6.")
    await expect(steps.nth(1)).to_contain_text(r"Odd: \(\frac{1\).")
    await expect(steps.nth(2).locator(".katex")).to_have_count(3)


async def test_a_panel_shows_the_candidates_and_which_was_drawn(page: Page, gateway: Gateway) -> None:
    """Opened by Enter: the law in words, the line of u, numbers that are none as words, and differences marked."""
    job_id = await run(gateway, ODD)
    await open_trace(page, job_id)
    head = page.get_by_role("button", name="Step 1 draft")
    await expect(head).to_have_attribute("aria-expanded", "false")
    await head.press("Enter")
    await expect(head).to_have_attribute("aria-expanded", "true")
    panel = page.locator("#step-1-panel")
    await expect(panel.get_by_role("heading", name="The draft's 4 candidates")).to_be_visible()
    await expect(panel.locator(".rule")).to_contain_text("tilted reward is at least u = 0.500")
    rows = panel.locator("tbody tr[data-index]")
    await expect(rows).to_have_count(4)
    await expect(panel.locator("tr.drawn")).to_have_count(1)
    step = (await gateway.jobs.result(job_id)).steps[0]
    await expect(panel.locator(f"tr.drawn[data-index='{step.proposals[0].selected}']")).to_contain_text("drawn")
    await expect(panel.locator("tr[data-index='1']")).to_contain_text("not a number")
    await expect(panel.locator("tr[data-index='2']")).to_contain_text("minus infinity")
    assert await panel.locator("tr[data-index='3'] mark").all_inner_texts()
    await expect(panel.locator("line.line:not(.halo)")).to_have_count(4)
    await expect(panel.get_by_text("Seconds of the step")).to_be_visible()
    await head.press("Enter")
    await expect(panel).to_be_hidden()


async def test_a_judged_step_says_what_its_judges_said(page: Page, gateway: Gateway) -> None:
    """Its score in the line of the step, the answers in its panel, and why a step was rejected."""
    await open_trace(page, await run(gateway, "One.|!Two.|Three.", method="spec-reason"))
    steps = page.locator(".step")
    await expect(steps).to_have_count(3)
    await expect(page.get_by_role("button", name="Step 1 draft")).to_contain_text("score 9")
    second = steps.nth(1)
    await expect(second.locator("del")).to_contain_text("Wrong: Two.")
    why = "the target judged the draft's step: score 0.000 (0 with 75.0 %, 9 with 25.0 %, 1 with 0 %)"
    await expect(second.locator(".why")).to_contain_text(why)
    await page.get_by_role("button", name="Step 1 draft").click()
    await expect(page.locator("#step-1-panel")).to_contain_text(
        "The target judged the draft's step: score 9.000 (9 with 100 %"
    )
    await expect(page.locator(".step-head .numbers").filter(has_text="reward")).to_have_count(0)


async def test_a_step_that_a_better_one_replaced_says_by_which_rule(page: Page, gateway: Gateway) -> None:
    """Of a method whose rule is no line of a number; the share of accepted steps counts it."""
    await open_trace(page, await run(gateway, "One.|!Two.|Three.", method="arbitrage-oracle"))
    second = page.locator(".step").nth(1)
    await expect(second.locator("del")).to_contain_text("Wrong: Two.")
    await expect(second.locator(".why")).to_contain_text("reward 0.100; the rule of arbitrage-oracle rejected it")
    await expect(page.locator(".facts")).to_contain_text("67\u00a0% accepted")
    why = "(await import('/page/trace/selection.js')).whyRejected({ reward: 0.1 }, params)"
    params = {"method": "arbitrage", "router_threshold": 0.25, "weighting": {"name": "binary", "delta": 0.7}}
    assert await page.evaluate(f"async (params) => {why}", params) == "reward 0.100; the router (τ = 0.25) rejected it"


async def test_a_job_without_its_candidates_says_how_to_keep_them(page: Page, gateway: Gateway) -> None:
    """And has the seconds of the step all the same."""
    await open_trace(page, await run(gateway, "One.|Two.", keep_candidates=False))
    await page.get_by_role("button", name="Step 1 draft").click()
    panel = page.locator("#step-1-panel")
    await expect(panel).to_contain_text("keep_candidates: true")
    await expect(panel).to_contain_text("phases were not kept")


async def test_a_link_to_a_step_opens_it(page: Page, gateway: Gateway) -> None:
    """The link that "Copy link" gives; the step has the focus."""
    job_id = await run(gateway, ODD)
    await open_trace(page, job_id)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Step 2 target").click()
    await page.get_by_role("button", name="Copy link to step 2").click()
    await expect(page.get_by_text("Copied")).to_be_visible()
    link = await page.evaluate("navigator.clipboard.readText()")
    assert link == f"{gateway.url}/#/jobs/{job_id}/step/2"
    await page.goto("about:blank")
    await page.goto(link)
    await expect(page.get_by_role("button", name="Step 2 target")).to_have_attribute("aria-expanded", "true")
    await expect(page.get_by_role("button", name="Step 1 draft")).to_have_attribute("aria-expanded", "false")
    await expect(page.get_by_role("button", name="Step 2 target")).to_be_focused()


async def test_a_job_is_watched_live_to_its_end(page: Page, gateway: Gateway) -> None:
    """Steps come as they are kept, are said politely, and are there once; the reader's place does not move."""
    job_id = await gateway.jobs.submit({"prompt": "First.|~!Second.|~Third.|~Fourth.", "params": KEPT})
    await open_trace(page, job_id)
    await expect(page.locator(".step")).not_to_have_count(4)
    await expect(page.get_by_text("The models are at work.")).to_be_visible()
    await expect(page.locator(".step")).to_have_count(2)
    await expect(page.locator("[aria-live=polite]")).to_contain_text("Step 2 was written by the target")
    await expect(page.locator(".step")).to_have_count(4)
    await expect(page.locator("[aria-live=polite]")).to_contain_text("The job is succeeded.")
    await expect(page.get_by_text("The models are at work.")).not_to_be_visible()
    assert await page.evaluate("scrollY") == 0
    assert await page.locator(".step-number").all_inner_texts() == [f"Step {number}" for number in (1, 2, 3, 4)]


async def test_only_a_reader_at_the_end_follows_what_comes(browser: Browser, gateway: Gateway) -> None:
    """Who reads further up stays there."""
    prompt = "|".join(f"~Step {number} of many." for number in range(8))
    async with quiet_page(browser, gateway.url, viewport={"width": 900, "height": 500}) as page:
        for is_at_end in (False, True):
            job_id = await gateway.jobs.submit({"prompt": prompt, "params": KEPT})
            await open_trace(page, job_id)
            await expect(page.locator(".step")).to_have_count(3)
            place = "document.documentElement.scrollHeight" if is_at_end else "40"
            await page.evaluate(f"scrollTo(0, {place})")
            await expect(page.locator(".step")).to_have_count(7)
            left = "document.documentElement.scrollHeight - innerHeight - scrollY"
            assert await page.evaluate(f"({left} < 50) && scrollY > 40" if is_at_end else "scrollY === 40")
            await gateway.jobs.wait(job_id)


async def test_hostile_steps_are_text(page: Page, gateway: Gateway) -> None:
    """In the answer, in a rejected step, among the candidates, and in a formula."""
    evil = "<img src=x onerror=alert(1)>"
    hostile = rf"{{{evil} (0.9)/<b>c (0.4)}} \(\href{{javascript:alert(1)}}{{z}}\)|!{evil} $\text{{{evil}}}$|{evil}"
    await open_trace(page, await run(gateway, hostile))
    for head in await page.locator(".step-head").all():
        await head.click()
    await expect(page.locator(".panel tr[data-index]")).to_have_count(4 + 8 + 4)
    for place in (".prompt", ".step-text", ".candidates"):
        assert await page.locator(f"{place} :is(img, b, script, iframe, a)").count() == 0
    await expect(page.locator(".step del")).to_contain_text(f"Wrong: {evil}")


async def test_a_lost_connection_comes_back_and_no_step_is_doubled(page: Page, gateway: Gateway) -> None:
    """The first stream breaks off after two steps and says one twice; the next goes on after the last that came."""
    job_id = await run(gateway, "One.|Two.|Three.|Four.|Five.")
    async with gateway.http() as http:
        document = (await http.get(f"/gsi/v1/jobs/{job_id}")).json()
    first, second = ((f"event: step\nid: {n}\ndata: {json.dumps(document['steps'][n])}\n\n") for n in (0, 1))
    begun = {"job": {**document["job"], "state": "RUNNING", "text": "", "answer": None}, "steps": []}
    asked: list[str] = []

    async def answer_stream(route: Route) -> None:
        asked.append(urlsplit(route.request.url).query)
        if len(asked) > 1:
            await route.fallback()
        else:
            await route.fulfill(body=first + second + second, content_type="text/event-stream")

    await page.route(f"**/jobs/{job_id}", lambda route: route.fulfill(json=begun))
    await page.route(f"**/jobs/{job_id}/events?*", answer_stream)
    await open_trace(page, job_id)
    await expect(page.locator(".step")).to_have_count(5)
    await expect(page.locator(".title-line .badge")).to_have_text("succeeded")
    assert asked == ["after=-1", "after=1"]
    assert await page.locator(".step-number").all_inner_texts() == [f"Step {number}" for number in range(1, 6)]


async def test_arrows_move_between_steps(page: Page, gateway: Gateway) -> None:
    """And Home and End to the first and the last."""
    await open_trace(page, await run(gateway, "One.|Two.|Three."))
    await page.get_by_role("button", name="Step 1 draft").focus()
    for key, name in (("ArrowDown", "Step 2"), ("ArrowDown", "Step 3"), ("ArrowDown", "Step 3"), ("Home", "Step 1")):
        await page.keyboard.press(key)
        await expect(page.get_by_role("button", name=name)).to_be_focused()
    await page.keyboard.press("End")
    await page.keyboard.press("ArrowUp")
    await expect(page.get_by_role("button", name="Step 2")).to_be_focused()


async def test_a_job_that_runs_can_be_cancelled(page: Page, gateway: Gateway) -> None:
    """After a question, by a button that is gone afterwards; the steps that were kept stay."""
    job_id = await gateway.jobs.submit({"prompt": "One.|~~~~~~~~Two.|Three.", "params": KEPT})
    await open_trace(page, job_id)
    await expect(page.locator(".step")).to_have_count(1)
    await page.get_by_role("button", name=f"Cancel job {job_id}").click()
    await page.get_by_role("button", name="Cancel the job").click()
    await expect(page.locator(".title-line .badge")).to_have_text("cancelled")
    await expect(page.get_by_role("button", name=f"Cancel job {job_id}")).to_have_count(0)
    await expect(page.locator(".why-ended")).to_contain_text("cancelled on the web page")
    await expect(page.locator(".step")).to_have_count(1)


async def test_a_dead_job_says_why_and_is_retried_to_its_end(browser: Browser, models: Models) -> None:
    """The reason stands above the answer; after the retry the trace is live again, without a reload."""
    settings = {"GSI_GATEWAY_QUEUE": "web-dead-traces"}
    async with (
        idle_queue(models.redis_url, "web-dead-traces") as queue,
        models.gateway("dead-traces", settings) as gateway,
        quiet_page(browser, gateway.url) as page,
    ):
        async with gateway.http() as http:
            job_id = (await http.post("/gsi/v1/jobs", json={"model": "gsi", "prompt": "2 + 3"})).json()["id"]
        await queue.kill(job_id, "the draft is away")
        await open_trace(page, job_id)
        await expect(page.locator(".why-ended")).to_contain_text(
            "The job was given up: tried 1 times: the draft is away"
        )
        await page.get_by_role("button", name=f"Retry job {job_id}").click()
        await expect(page.locator(".title-line .badge")).to_have_text("queued")
        await queue.answer(job_id, "5")
        await expect(page.locator(".title-line .badge")).to_have_text("succeeded")
        await expect(page.locator(".why-ended")).to_have_count(0)


async def test_a_long_answer_is_made_only_where_it_is_looked_at(page: Page, gateway: Gateway) -> None:
    """500 steps of four candidates: no panel before it is opened, and formulas near the window alone."""
    job_id = await run(gateway, ODD)
    async with gateway.http() as http:
        document = (await http.get(f"/gsi/v1/jobs/{job_id}")).json()
    document["steps"] = [{**document["steps"][index % 3], "index": index} for index in range(500)]
    await page.route(f"**/gsi/v1/jobs/{job_id}", lambda route: route.fulfill(json=document))
    await open_trace(page, job_id)
    await expect(page.locator(".step")).to_have_count(500)
    await expect(page.locator("#step-1 .katex")).to_have_count(1)
    assert await page.locator(".katex").count() < 100
    assert await page.locator(".panel *").count() == 0
    await page.goto(f"/#/jobs/{job_id}/step/400")
    await expect(page.locator("#step-400-panel tr.drawn")).to_have_count(1)
    await expect(page.locator("#step-400 .kept .katex")).to_have_count(1)
    await expect(page.locator(".panel:not([hidden])")).to_have_count(1)


async def test_an_unknown_job_is_said(page: Page, gateway: Gateway) -> None:
    """With the gateway's own sentence."""
    await page.goto("/#/jobs/nothing-here")
    await expect(page.get_by_role("alert")).to_contain_text("no job nothing-here")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_trace_has_no_serious_fault_and_fits_a_phone(browser: Browser, gateway: Gateway, scheme: Any) -> None:
    """axe-core, in both schemes, with a panel open; 380 pixels are enough."""
    job_id = await run(gateway, ODD)
    async with quiet_page(browser, gateway.url, viewport=NARROW, color_scheme=scheme) as page:
        await page.goto(f"/#/jobs/{job_id}/step/2")
        await expect(page.locator("#step-2-panel .candidates").first).to_be_visible()
        assert not await is_wider_than_its_window(page)
        assert await faults(page) == []
        await page.set_viewport_size({"width": 1200, "height": 900})
        assert not await is_wider_than_its_window(page)
        assert await faults(page) == []
