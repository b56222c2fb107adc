"""Searches as trees: beams that are kept and cut, whole responses, and the votes of answers."""

import pytest
from playwright.async_api import Browser, Page, expect

from gsi.jobs.reader import JobRecord
from tests.gateway.system import Gateway
from tests.web.browser import NARROW, faults, is_wider_than_its_window, quiet_page

pytestmark = pytest.mark.asyncio(loop_scope="session")

BEAMS = (
    "{Try two (0.7)/Try three (0.8)/Try four (0.2)/Try five (0.6)}.|"
    "{Then it doubles (0.9)/Then it halves (0.3)/Then it grows (0.85)}.|Check {well (0.9)/badly (0.1)}."
)
VOTES = r"So it is \boxed{{18/20/18/9}}{ (0.9)/ (0.5)/ (0.4)/ (0.3)}"
GROW = """async (steps) => {
  const { grow, path } = await import("/page/trace/trajectories.js");
  const { rounds, leaves } = grow(steps);
  const texts = leaves.map((leaf) => path(leaf).map((node) => node.step.text));
  return { texts, cut: rounds.map((nodes) => nodes.filter((node) => node.isCut).length) };
}"""


async def search(gateway: Gateway, prompt: str, method: str, n: int) -> JobRecord:
    """Run a search to its end."""
    params = {"method": method, "n": n, "keep_candidates": True, "seed": 3}
    job_id = await gateway.jobs.submit({"prompt": prompt, "params": params})
    return await gateway.jobs.wait(job_id)


async def test_the_trajectories_are_those_that_the_record_tells_of(page: Page, gateway: Gateway) -> None:
    """The leaves' texts, and as many cut candidates as a round wrote and did not keep."""
    record = await search(gateway, BEAMS, "beam-search:width=2:expansion=3", 6)
    await page.goto("/")
    found = await page.evaluate(GROW, [step.to_dict() for step in record.steps])
    population: list[list[str]] = [[]]
    for step in record.steps:
        parents = population
        population = [
            [*parents[branch.parent], *([branch.step.text] if branch.step else [])] for branch in step.to_branches()
        ]
    assert found["texts"] == population
    written = [{(each.parent, c.token_ids) for each in s.proposals for c in each.candidates} for s in record.steps]
    kept = [{(each.parent, each.step.token_ids) for each in s.to_branches() if each.step} for s in record.steps]
    assert sum(found["cut"]) >= sum(len(all_ - kept_) for all_, kept_ in zip(written, kept, strict=True)) > 0


async def test_a_beam_search_is_a_tree_with_cut_branches(page: Page, gateway: Gateway) -> None:
    """The answer's branch is open; the cut candidates are crossed out beside it."""
    record = await search(gateway, BEAMS, "beam-search:width=2:expansion=3", 6)
    await page.goto(f"/#/jobs/{record.id}")
    tree = page.locator(".tree")
    await expect(tree.get_by_role("heading", name="The beams")).to_be_visible()
    await expect(tree.get_by_role("img")).to_be_visible()
    answer = tree.locator(".branches > li.answer").first
    await expect(answer.locator("summary").first).to_contain_text("the answer")
    await tree.locator(".cut-candidates summary").first.click()
    await expect(tree.locator(".cut-candidates del").first).to_be_visible()
    texts = await page.locator(".step .kept").all_inner_texts()
    assert "".join(texts).replace(" ", "") == record.text.replace(" ", "").replace("\n", "")


async def test_a_vote_counts_the_answers(page: Page, gateway: Gateway) -> None:
    """Most votes first, the answer marked."""
    record = await search(gateway, VOTES, "majority-vote", 8)
    assert record.answer == "18"
    await page.goto(f"/#/jobs/{record.id}")
    rows = page.locator(".votes tbody tr")
    await expect(rows).to_have_count(3)
    assert [await row.locator("td").last.inner_text() for row in await rows.all()] == ["4", "2", "2"]
    await expect(rows.first).to_contain_text("18")
    await expect(rows.first).to_contain_text("the answer")
    await expect(page.locator(".branches > li")).to_have_count(8)


async def test_best_of_n_over_responses_shows_the_scores(page: Page, gateway: Gateway) -> None:
    """The chosen response has the highest."""
    record = await search(gateway, VOTES, "best-of-n:responses", 4)
    await page.goto(f"/#/jobs/{record.id}")
    await expect(page.locator(".branches > li")).to_have_count(4)
    await expect(page.locator(".branches > li.answer summary")).to_contain_text("response 1, step 1, score 0.90")


@pytest.mark.parametrize(
    ("method", "heading"),
    [
        ("particle-filter:beta=8", "The particles"),
        ("particle-filter:tilted", "The particles"),
        ("dvts:width=2:expansion=3", "The subtrees"),
        ("gsi:responses:u=9", "The responses"),
        ("soft-best-of-n:responses", "The responses"),
        ("confidence-vote", "The responses"),
        ("speculative-rejection", "The responses"),
        ("best-of-n:responses:n_rule=threshold=0.8", "The responses"),
    ],
)
async def test_every_search_is_a_tree_with_the_answers_branch(
    page: Page, gateway: Gateway, method: str, heading: str
) -> None:
    """Trajectories as the record tells of them; the answer's branch is one of them."""
    record = await search(gateway, BEAMS, method, 6)
    await page.goto(f"/#/jobs/{record.id}")
    tree = page.locator(".tree")
    await expect(tree.get_by_role("heading", name=heading)).to_be_visible()
    await expect(tree.locator(".branches li.answer").first).to_be_visible()
    found = await page.evaluate(GROW, [step.to_dict() for step in record.steps])
    assert record.text in ["".join(texts) for texts in found["texts"]]


@pytest.mark.parametrize(
    ("prompt", "method"), [(BEAMS, "beam-search"), (VOTES, "majority-vote")], ids=["beam-search", "majority-vote"]
)
async def test_a_tree_can_be_read_on_a_phone(browser: Browser, gateway: Gateway, prompt: str, method: str) -> None:
    """At 380 pixels, without a serious fault."""
    record = await search(gateway, prompt, method, 16)
    async with quiet_page(browser, gateway.url, viewport=NARROW) as page:
        await page.goto(f"/#/jobs/{record.id}")
        await expect(page.locator(".tree")).to_be_visible()
        assert not await is_wider_than_its_window(page)
        assert await faults(page) == []
