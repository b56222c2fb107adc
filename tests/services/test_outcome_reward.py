"""An outcome reward model in place of a PRM, through the whole system: its raw score becomes what the job says."""

import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from gsi.client.sdk import AsyncClient
from gsi.engines.base import EngineSettings
from gsi.engines.registry import REWARD_ENGINES
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from services.prm.servicer import SERVICE, add_to_server
from tests.engines.reward_checkpoints import classifier
from tests.services.conftest import serving
from tests.system import ModelServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = (
    "On Sunday Mia has 7 shells. On Monday Tom brings her 4 bags of 3 shells. "
    "On Tuesday she loses 9 shells. On Wednesday she doubles the shells. How many shells does Mia have at the end?"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(model_services: ModelServices, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsyncClient]:
    """A system whose reward model is a random sequence classifier with one label, as Skywork-Reward's are."""
    model = tmp_path_factory.mktemp("outcome") / "prm"
    classifier(model)
    load = partial(REWARD_ENGINES.load, "transformers", EngineSettings(str(model), num_threads=1))
    async with serving(SERVICE, add_to_server, load) as prm:
        settings = {"GSI_COORDINATOR_PRM": prm.address}
        async with model_services.coordinators("outcome", settings=settings) as running:
            yield running.client


async def steps_of(client: AsyncClient, **params: Any) -> tuple[list[StepRecord], dict[str, Any]]:
    """Return the steps of a job, and the parameters that were in force."""
    job_id = await client.submit({"prompt": PROMPT, "params": {"n": 4, "seed": 1, "keep_candidates": True, **params}})
    record = await client.wait(job_id, 60.0)
    assert record.state is JobState.SUCCEEDED, record.fields
    plain = record.to_dict()
    return list(record.steps), plain["params"]


def rewards(steps: list[StepRecord]) -> list[float]:
    drafted = [p.candidates for step in steps for p in step.proposals if p.source == "draft"]
    found = [candidate.reward for candidates in drafted for candidate in candidates]
    assert all(reward is not None for reward in found)
    return [reward for reward in found if reward is not None]


async def test_a_job_that_says_nothing_gets_rewards_between_0_and_1(client: AsyncClient) -> None:
    """By the logistic function, and the result says so: u and delta keep their meaning."""
    steps, params = await steps_of(client)
    assert params["reward_map"] == {"name": "logistic", "center": 0.0, "scale": 1.0}
    assert all(0 < reward < 1 for reward in rewards(steps))


async def test_each_map_is_of_the_same_raw_score(client: AsyncClient) -> None:
    """First steps of equal seeds have equal candidates, so their rewards differ by the map alone."""
    raw = rewards((await steps_of(client, reward_map={"name": "raw"}))[0][:1])
    assert any(not 0 <= score <= 1 for score in raw)
    center = sorted(raw)[1] / 2 + sorted(raw)[2] / 2
    mapped = {
        "logistic": [1 / (1 + math.exp(-(score - center) / 2)) for score in raw],
        "linear": [min(1.0, max(0.0, (score - center) / 2)) for score in raw],
        "threshold": [float(score >= center) for score in raw],
    }
    for name, expected in mapped.items():
        chosen = {"name": name, "center": center} | ({} if name == "threshold" else {"scale": 2})
        steps, _ = await steps_of(client, reward_map=chosen)
        assert rewards(steps[:1]) == pytest.approx(expected), name


async def test_rsd_cuts_a_raw_score_at_its_threshold(client: AsyncClient) -> None:
    """RSD paper, section 4: an outcome model whose score may be any number, and delta on its scale."""
    scores = rewards((await steps_of(client, method="rsd", reward_map={"name": "raw"}))[0])
    for delta, outcomes in ((min(scores) - 10, {"accepted"}), (max(scores) + 10, {"resampled"})):
        steps, _ = await steps_of(client, method=f"rsd:binary={delta}", reward_map={"name": "raw"})
        assert {step.outcome for step in steps} == outcomes


async def test_gsi_chooses_among_whole_responses_by_raw_scores(client: AsyncClient) -> None:
    """Rewards of any size choose among responses through the queue, too; each response is rated once, as a whole."""
    method = "gsi:responses:beta=1:u=0"
    steps, params = await steps_of(client, method=method, reward_map={"name": "raw"})
    assert (params["scope"], params["reward_map"]) == ("responses", {"name": "raw"})
    grown = [branch.step for step in steps for branch in step.branches if branch.step is not None]
    scores = [step.reward for step in grown if step.reward is not None]
    assert any(not 0 <= score <= 1 for score in scores)
    assert len(scores) == sum(step.index == 0 for step in grown)
