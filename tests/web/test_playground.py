"""The playground: an answer that grows, two side by side, a stop, and errors at the field that they name."""

import json
import re

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from gsi.client.gateway import open_api_keys
from tests.gateway.system import Gateway, Models
from tests.web.browser import NARROW, faults, is_wider_than_its_window, quiet_page

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANSWER = r"First. |!Second. |The answer is \boxed{20}"
SLOW = r"First. |~~Second. |The answer is \boxed{20}"
ENDLESS = "First. |" + "~" * 100 + "Second."


async def ask(page: Page, question: str, *, is_comparing: bool = False) -> None:
    """Open the playground, and fill in its form."""
    await page.goto("/#/")
    await page.get_by_label("Question").fill(question)
    await page.get_by_label("Compare two side by side").set_checked(is_comparing)


async def run(page: Page) -> None:
    await page.get_by_role("button", name="Run").click()


def pane(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


async def job_of(gateway: Gateway, shown: Locator) -> str:
    """Return the id of the job that a pane links to."""
    link = await shown.get_by_role("link", name="Trace").get_attribute("href")
    assert link
    return link.rpartition("/")[2]


async def test_an_answer_grows_step_by_step(page: Page, gateway: Gateway) -> None:
    """Each step by its source, with its reward; what was rejected stands crossed out before what replaced it."""
    await ask(page, ANSWER.replace("The", "~~The"))
    await run(page)
    shown = pane(page, "gsi")
    await expect(shown.get_by_text("First.")).to_be_visible()
    await expect(shown.get_by_text("running")).to_be_visible()
    steps = shown.get_by_role("listitem")
    await expect(steps).to_have_count(2)
    await expect(shown.locator(".answer")).not_to_be_visible()
    assert "draft" in await steps.nth(0).inner_text()
    assert "reward 0.90" in await steps.nth(0).inner_text()
    await expect(steps.nth(1).locator("del")).to_have_text("Wrong: Second.")
    assert re.search(r"draft\s*rejected\s*reward 0.10 · tilted 0.\d\d", await steps.nth(1).inner_text())
    await expect(steps.nth(1).locator(".kept.target")).to_contain_text("written again · reward 0.90")
    await expect(shown.get_by_text("succeeded")).to_be_visible()
    await expect(shown.locator(".answer strong")).to_have_text("20")
    result = await gateway.jobs.result(await job_of(gateway, shown))
    assert [len(step.proposals) for step in result.steps] == [1, 2, 1]  # kept for the trace


async def test_numbers_are_those_of_the_job(page: Page, gateway: Gateway) -> None:
    """Seconds, steps, and the tokens of all three models."""
    await ask(page, ANSWER)
    await run(page)
    shown = pane(page, "gsi")
    await expect(shown.locator(".answer")).to_be_visible()
    async with gateway.http() as http:
        told = (await http.get(f"/gsi/v1/jobs/{await job_of(gateway, shown)}")).json()["job"]
    numbers = {
        await each.locator("dt").inner_text(): (await each.locator("dd").inner_text()).replace("\u202f", "")
        for each in await shown.locator(".numbers > div").all()
    }
    assert numbers == {
        "Seconds": f"{told['seconds']['running']:.2f}",
        "Steps": "3",
        "Draft tokens": str(told["usage"]["draft_tokens"]),
        "Target tokens": str(told["usage"]["target_tokens"]),
        "PRM tokens": str(told["usage"]["prm_tokens"]),
    }


async def test_two_are_compared_by_what_was_measured(page: Page, gateway: Gateway) -> None:
    """Started at once; the quotient is that of the jobs' own seconds."""
    await ask(page, SLOW.replace("~~", "!~~"), is_comparing=True)
    await run(page)
    verdict = page.get_by_role("status", name="Comparison")
    await expect(verdict).to_contain_text("Both write at once")
    await expect(verdict).to_contain_text("Both answered 20.")
    seconds = {}
    async with gateway.http() as http:
        for name in ("gsi", "gsi:target"):
            answer = await http.get(f"/gsi/v1/jobs/{await job_of(gateway, pane(page, name))}")
            seconds[name] = answer.json()["job"]["seconds"]["running"]
    assert seconds["gsi:target"] < seconds["gsi"]  # here the draft's step is rejected, and both write slowly
    times = seconds["gsi"] / seconds["gsi:target"]
    await expect(verdict).to_contain_text(f"gsi:target was {times:.1f} times as fast as gsi")


async def test_nothing_is_compared_if_one_has_failed(page: Page, gateway: Gateway) -> None:
    """Seconds of a job without an answer say nothing."""
    await ask(page, ENDLESS, is_comparing=True)
    await page.get_by_label("Model").nth(1).select_option("gsi:draft")
    await run(page)
    await expect(pane(page, "gsi:draft").get_by_text("First.")).to_be_visible()
    await page.get_by_role("button", name="Stop").click()
    verdict = page.get_by_role("status", name="Comparison")
    await expect(verdict).to_contain_text("gsi and gsi:draft ended without an answer.")
    assert "times as fast" not in await verdict.inner_text()


async def test_a_stop_cancels_the_job(page: Page, gateway: Gateway) -> None:
    """For everyone, and the pane says so."""
    await ask(page, ENDLESS)
    await run(page)
    shown = pane(page, "gsi")
    await expect(shown.get_by_role("listitem")).to_have_count(1)
    await page.get_by_role("button", name="Stop").click()
    await expect(shown.get_by_text("cancelled", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name="Run")).to_be_enabled()
    assert (await gateway.jobs.result(await job_of(gateway, shown))).state == "CANCELLED"


async def test_only_parameters_that_the_method_reads_are_shown_and_sent(page: Page, gateway: Gateway) -> None:
    """And of those, what was typed."""
    await ask(page, "Only.")
    await expect(page.get_by_label("Threshold u")).to_be_visible()
    await page.get_by_label("Candidates n").fill("3")
    await page.get_by_label("Model").select_option("gsi:best-of-n")
    await expect(page.get_by_label("Threshold u")).not_to_be_visible()
    await page.get_by_text("More parameters").click()
    await page.get_by_label("Choose among").select_option("responses")
    await page.get_by_label("Seed").fill("7")
    await run(page)
    shown = pane(page, "gsi:best-of-n")
    await expect(shown.locator(".pane-end")).to_be_visible()
    params = (await gateway.jobs.result(await job_of(gateway, shown))).document.params
    assert params is not None
    assert {name: params[name] for name in ("method", "n", "scope", "seed")} == {
        "method": "best-of-n",
        "n": 3,
        "scope": "responses",
        "seed": 7,
    }


async def test_a_method_is_chosen_over_the_models(page: Page, gateway: Gateway) -> None:
    """The model then says the queue alone."""
    await ask(page, "Only.")
    await page.get_by_text("More parameters").click()
    await page.get_by_label("Method").select_option("rsd")
    await page.get_by_label("Weighting").fill("binary=0.2")
    await run(page)
    shown = pane(page, "gsi")
    await expect(shown.locator(".pane-end")).to_be_visible()
    params = (await gateway.jobs.result(await job_of(gateway, shown))).document.params
    assert params is not None
    assert (params["method"], params["weighting"]) == ("rsd", {"name": "binary", "delta": 0.2})


@pytest.mark.parametrize(
    ("label", "text", "said"),
    [
        ("Candidates n", "9000", "9000 is not allowed; allowed: a whole number from 1 to 256"),
        ("Candidates n", "many", "allowed: a whole number from 1 to 256"),
        ("Temperature", "0.001", "allowed: 0 (greedy), or a number from 0.01 to 10"),
    ],
)
async def test_an_error_stands_at_the_field_that_it_names(page: Page, label: str, text: str, said: str) -> None:
    """Also one that was folded away."""
    await ask(page, "Only.")
    if label == "Temperature":
        await page.get_by_text("More parameters").click()
    await page.get_by_label(label).fill(text)
    await run(page)
    field = page.get_by_label(label)
    await expect(field).to_have_attribute("aria-invalid", "true")
    described = await field.get_attribute("aria-describedby")
    assert described
    await expect(page.locator(f"[id='{described.split()[-1]}']")).to_contain_text(said)


async def test_the_last_runs_settings_survive_a_reload(page: Page) -> None:
    """In this tab."""
    await ask(page, "Only.", is_comparing=True)
    await page.get_by_label("Model").nth(1).select_option("gsi:rsd")
    await page.get_by_label("Candidates n").first.fill("2")
    await run(page)
    await expect(pane(page, "gsi:rsd").locator(".pane-end")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Question")).to_have_value("Only.")
    await expect(page.get_by_label("Model").nth(1)).to_have_value("gsi:rsd")
    await expect(page.get_by_label("Candidates n").first).to_have_value("2")


async def test_settings_that_no_longer_fit_are_left_out(page: Page) -> None:
    """A model that this gateway does not have, and text that is no JSON."""
    for kept in (json.dumps({"setups": [{"model": "none", "params": {}}], "prompt": "Kept."}), "{"):
        await page.goto("/#/")
        await page.evaluate("kept => sessionStorage.setItem('gsi-playground', kept)", kept)
        await page.reload()
        await expect(page.get_by_label("Model").first).to_have_value("gsi")
    await expect(page.get_by_label("Question")).to_have_value(re.compile("shells"))


async def test_a_paused_queue_is_said_at_once(page: Page, gateway: Gateway) -> None:
    """Within two seconds of the run, and until it is resumed."""
    await ask(page, "Only.")
    await gateway.jobs.admin.pause()
    try:
        await run(page)
        await expect(page.get_by_text("The queue web-tests is paused.")).to_be_visible(timeout=2000)
        await expect(pane(page, "gsi").get_by_text("Waiting for its turn")).to_be_visible()
    finally:
        await gateway.jobs.admin.resume()
    await expect(pane(page, "gsi").locator(".pane-end")).to_be_visible()
    await expect(page.get_by_text("The queue web-tests is paused.")).not_to_be_visible()


async def test_a_queue_that_no_coordinator_reads_is_said_at_once(browser: Browser, models: Models) -> None:
    """Jobs wait there for a coordinator to start."""
    async with (
        models.gateway("lonely", {"GSI_GATEWAY_QUEUE": "nobody"}) as gateway,
        quiet_page(browser, gateway.url) as page,
    ):
        await ask(page, "Only.")
        await run(page)
        await expect(page.get_by_text("No coordinator reads the queue nobody.")).to_be_visible(timeout=2000)
        await page.get_by_role("button", name="Stop").click()
        await expect(pane(page, "gsi").get_by_text("cancelled", exact=True)).to_be_visible()


async def test_a_stream_that_breaks_off_goes_on_where_it_was(browser: Browser, models: Models) -> None:
    """No step is lost or told twice."""
    async with models.gateway("breaks") as gateway, quiet_page(browser, gateway.url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/events" in request.url else None)
        await page.add_init_script(BREAK_FIRST_STREAM)
        await ask(page, "First. |~Second. |Third.")
        await run(page)
        shown = pane(page, "gsi")
        await expect(shown.locator(".pane-end")).to_be_visible()
        assert await shown.locator(".kept .step-text").all_inner_texts() == ["First.", "Second.", "Third."]
    assert [url.rpartition("after=")[2] for url in asked] == ["-1", "0"]


BREAK_FIRST_STREAM = """
const real = window.fetch;
let isBroken = false;
window.fetch = async (url, options) => {
  const answer = await real(url, options);
  if (isBroken || !String(url).includes("/events")) return answer;
  isBroken = true;
  const reader = answer.body.getReader();
  const body = new ReadableStream({ async pull(to) {
    const { value } = await reader.read();
    to.enqueue(value);
    if (new TextDecoder().decode(value).includes("event: step")) { reader.cancel(); to.close(); }
  } });
  return new Response(body, answer);
};
"""


async def test_the_keyboard_is_enough(page: Page, gateway: Gateway) -> None:
    """From the address to the answer's trace."""
    await page.goto("/#/")
    await expect(page.get_by_label("Question")).to_be_visible()
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == "prompt":
            break
    await page.keyboard.press("Control+A")
    await page.keyboard.type(ANSWER)
    await page.keyboard.press("Control+Enter")
    await expect(pane(page, "gsi").locator(".answer strong")).to_have_text("20")
    await expect(pane(page, "gsi:target").locator(".answer strong")).to_have_text("20")
    job = await job_of(gateway, pane(page, "gsi"))
    for _ in range(30):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == "Trace":
            break
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/#/jobs/{job}")


async def test_it_is_accessible_before_and_after_a_run(browser: Browser, gateway: Gateway) -> None:
    """In light and dark, and at 380 pixels without scrolling sideways."""
    for options in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": NARROW}):
        async with quiet_page(browser, gateway.url, **options) as page:
            await ask(page, ANSWER, is_comparing=True)
            assert await faults(page) == []
            assert not await is_wider_than_its_window(page)
            await run(page)
            await expect(page.get_by_text("Both answered 20.")).to_be_visible()
            assert await faults(page) == []
            assert not await is_wider_than_its_window(page)


async def test_a_known_question_says_whether_the_answer_is_right(page: Page) -> None:
    """The examples of the page have one; these models repeat the question, and are wrong."""
    await page.goto("/#/")
    await page.get_by_role("button", name="Pens").click()
    await page.get_by_label("Compare two side by side").set_checked(False)
    await run(page)
    await expect(pane(page, "gsi").get_by_text("wrong: it is 37")).to_be_visible()


async def test_the_key_is_asked_for_and_kept_in_the_tab(browser: Browser, models: Models) -> None:
    """A wrong one is refused in the dialog, and Escape closes it."""
    settings = {"GSI_GATEWAY_KEYS": "true"}
    async with (
        models.gateway("locked", settings) as gateway,
        open_api_keys(models.redis_url) as keys,
        quiet_page(browser, gateway.url) as page,
    ):
        secret, _ = await keys.create("of the page")
        await page.goto("/#/")
        dialog = page.get_by_role("dialog", name="API key")
        await expect(dialog).to_be_visible()
        assert await faults(page) == []
        await page.keyboard.press("Escape")
        await expect(dialog).not_to_be_visible()
        await expect(page.get_by_text("A key is needed")).to_be_visible()
        await page.get_by_role("button", name="Set a key").click()
        await dialog.get_by_label("Key", exact=True).fill("wrong")
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_text("unknown or revoked key")).to_be_visible()
        await dialog.get_by_label("Key", exact=True).fill(secret)
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Question")).to_be_visible()
        assert await page.evaluate("JSON.stringify(localStorage)") == "{}"
        await page.reload()
        await expect(page.get_by_label("Question")).to_be_visible()


async def test_a_key_that_may_read_alone_cannot_run(browser: Browser, models: Models) -> None:
    """The page says so before anything is asked."""
    settings = {"GSI_GATEWAY_KEYS": "true"}
    async with models.gateway("reader", settings) as gateway, open_api_keys(models.redis_url) as keys:
        secret, _ = await keys.create("reads", right="read")
        async with quiet_page(browser, gateway.url, secret) as page:
            await page.goto("/#/")
            await expect(page.get_by_text("This key may read, and not submit jobs.")).to_be_visible()
            await expect(page.get_by_role("button", name="Run")).to_be_disabled()
