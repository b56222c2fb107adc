"""What the page computes of a step's record, against the algorithm: figures of candidates, phases, differences."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from playwright.async_api import Page

from gsi.algorithm.soft_best_of_n import probabilities
from gsi.algorithm.tilting import log_ratio, rankable, tilted_reward
from gsi.jobs.step_record import ProposalRecord
from tests.gateway.system import Gateway
from tests.web.made_traces import ODD, run

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIGURES = """async ([proposal, params]) => {
  const { figures } = await import("/page/trace/selection.js");
  const asText = (value) => (value === null || Number.isFinite(value) ? value : String(value));
  const { rule, candidates } = figures(proposal, params);
  const values = (each) => [each.reward, each.logRatio, each.tiltedReward, each.probability].map(asText);
  return { rule, candidates: candidates.map(values) };
}"""

COSTS = """async (steps) => {
  const { phases, tokens } = await import("/page/trace/costs.js");
  return { phases: steps.map(phases), tokens: tokens(steps) };
}"""
DIFFERENCES = """async ([text, other]) => (await import("/page/trace/differences.js")).differences(text, other)"""


@pytest.mark.parametrize(
    "params",
    [
        {"method": "gsi"},
        {"method": "gsi", "beta": 500.0},
        {"method": "gsi", "preset": "authors"},
        {"method": "gsi-no-rejection"},
        {"method": "rsd"},
        {"method": "specs", "switch_threshold": 0.5},
        {"method": "soft-best-of-n"},
        {"method": "best-of-n"},
        {"method": "draft"},
    ],
    ids=json.dumps,
)
async def test_the_figures_of_candidates_are_those_of_the_algorithm(
    page: Page, gateway: Gateway, params: Mapping[str, Any]
) -> None:
    """Reward, log-ratio, tilted reward and probability of every candidate, NaN and infinities among them."""
    record = await gateway.jobs.result(await run(gateway, ODD, **params))
    assert record.document.params is not None
    await page.goto("/")
    for step in record.steps:
        for proposal in step.proposals:
            found = await page.evaluate(FIGURES, [proposal.to_dict(), dict(record.document.params)])
            assert_equal(found["candidates"], expected_figures(proposal, record.document.params))


def expected_figures(proposal: ProposalRecord, params: Mapping[str, Any]) -> list[list[float | None]]:
    """Return the figures as gsi/algorithm has them. A reward that was not asked decides nothing: it stands as 0."""
    beta = params["beta"]
    rewards = [0.0 if each.reward is None else rankable(each.reward) for each in proposal.candidates]
    ratios = [
        None if each.log_likelihood_target is None else log_ratio(each.log_likelihood_target, each.log_likelihood)
        for each in proposal.candidates
    ]
    tilted = [
        None if ratio is None else tilted_reward(reward, ratio, beta)
        for reward, ratio in zip(rewards, ratios, strict=True)
    ]
    if params["method"] in {"draft", "best-of-n"}:
        law = [float(index == rewards.index(max(rewards))) for index in range(len(rewards))]
    else:
        is_tilted = params["method"] in {"gsi", "gsi-no-rejection", "specs"} and proposal.source == "draft"
        law = probabilities([value for value in tilted if value is not None] if is_tilted else rewards, beta)
    told = [each.reward for each in proposal.candidates]
    return [list(row) for row in zip(told, ratios, tilted, law, strict=True)]


def assert_equal(found: list[list[Any]], expected: list[list[float | None]]) -> None:
    for row, other in zip(found, expected, strict=True):
        assert [value is None for value in row] == [value is None for value in other]
        numbers = [float(value) for value in row if value is not None]
        assert numbers == pytest.approx([v for v in other if v is not None], rel=1e-12, abs=1e-15, nan_ok=True)


async def test_a_step_that_the_prm_was_not_asked_about_has_no_tilted_reward(page: Page, gateway: Gateway) -> None:
    """Of a response that goes on: its log-ratio is known, and minus infinity would be a verdict."""
    scored = {
        "token_ids": [1],
        "text": "a",
        "finish_reason": "eos",
        "log_likelihood": -2.0,
        "log_likelihood_target": -1.0,
    }
    proposal = {"source": "draft", "selected": None, "candidates": [scored, {**scored, "reward": 0.5}]}
    await page.goto("/")
    found = await page.evaluate(FIGURES, [proposal, {"method": "gsi", "scope": "responses", "beta": 2.0}])
    assert found == {"rule": "search", "candidates": [[None, 1.0, None, None], [0.5, 1.0, 1.0, None]]}


async def test_phases_and_tokens_add_up(page: Page, gateway: Gateway) -> None:
    """The seconds by phase are the step's, the tokens those that the models wrote."""
    record = await gateway.jobs.result(await run(gateway, ODD))
    await page.goto("/")
    found = await page.evaluate(COSTS, [step.to_dict() for step in record.steps])
    for phases, step in zip(found["phases"], record.steps, strict=True):
        assert sum(phases.values()) == pytest.approx(step.seconds, abs=1e-5)
        assert ("resample" in phases) == (step.outcome == "resampled")
    assert found["tokens"]["draft"] == sum(step.draft_tokens for step in record.steps)
    assert found["tokens"]["keptTarget"] == len(record.steps[1].token_ids)


@pytest.mark.parametrize(
    ("text", "other", "marked"),
    [
        ("So 3 + 4 = 7 apples.", "Then 3 + 4 = 8 apples.", ["So", " 7"]),
        ("It is $x^2 + 1$ here.", "It is $x^2 - 1$ here.", ["$x^2 + 1$"]),
        (r"So \[ x = 1 \] holds.", r"So \[ x = 2 \] holds.", [r"\[ x = 1 \]"]),
        ("The same.", "The same.", []),
        ("One two three", "", ["One two three"]),
    ],
)
async def test_differences_are_words_that_the_other_text_lacks(
    page: Page, text: str, other: str, marked: list[str]
) -> None:
    """A formula is one word; the parts together are the text."""
    await page.goto("/")
    parts = await page.evaluate(DIFFERENCES, [text, other])
    assert "".join(part["text"] for part in parts) == text
    assert [part["text"].rstrip() for part in parts if not part["isSame"]] == marked
