"""Preset ``authors`` through the whole system: what a job asks for, what a PRM is set to, and what a result says."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from gsi.algorithm.stopping import StopReason
from gsi.client.sdk import AsyncClient
from gsi.engines.base import EngineSettings, Reading
from gsi.engines.registry import REWARD_ENGINES
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.demo import EXAMPLE_PROBLEM
from services.prm.servicer import SERVICE, add_to_server
from tests.conftest import MODELS
from tests.services.conftest import serving
from tests.system import ModelServices

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def default(model_services: ModelServices) -> AsyncIterator[AsyncClient]:
    async with model_services.coordinators("default") as running:
        yield running.client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def authors(model_services: ModelServices) -> AsyncIterator[AsyncClient]:
    """A system whose PRM is the shipped one, set to the authors' reading."""
    settings = EngineSettings(str(MODELS / "prm"), num_threads=1, reading=Reading.AUTHORS)
    load = partial(REWARD_ENGINES.load, "transformers", settings)
    async with (
        serving(SERVICE, add_to_server, load) as prm,
        model_services.coordinators("authors", settings={"GSI_COORDINATOR_PRM": prm.address}) as running,
    ):
        yield running.client


async def finished(client: AsyncClient, **params: Any) -> JobRecord:
    job_id = await client.submit(
        {"prompt": EXAMPLE_PROBLEM, "params": {"n": 2, "seed": 1, "keep_candidates": True, **params}}
    )
    record = await client.wait(job_id, 60.0)
    assert record.state is JobState.SUCCEEDED, record.fields
    return record


async def test_a_job_of_the_preset_says_what_was_in_force(default: AsyncClient) -> None:
    """The preset, and each value that it brought; a job without it has the paper's."""
    plain = (await finished(default, method="gsi:authors")).to_dict()["params"]
    assert (plain["preset"], plain["acceptance_threshold"], plain["reward_floor"]) == ("authors", 10.0, 0.1)
    assert plain["likelihood"] == "model"
    plain = (await finished(default)).to_dict()["params"]
    assert (plain["preset"], plain["acceptance_threshold"], plain["reward_floor"]) == ("paper", 0.5, None)


async def test_what_a_job_says_reaches_the_coordinator(default: AsyncClient) -> None:
    """Also where it is the default of a job without the preset, which the SDK does not leave out."""
    plain = (await finished(default, preset="authors", acceptance_threshold=0.5)).to_dict()["params"]
    assert plain["acceptance_threshold"] == 0.5


async def test_the_step_that_ended_the_job_is_on_record_and_not_in_the_answer(default: AsyncClient) -> None:
    """A floor that nothing reaches: the answer is empty with the preset, and one step without it."""
    dropped = await finished(default, method="gsi:authors", reward_floor=2.0)
    kept = await finished(default, reward_floor=2.0)
    for record in (dropped, kept):
        assert record.to_dict()["stop_reason"] == StopReason.LOW_REWARD
        assert len(record.steps) == 1
    assert dropped.to_dict()["text"] == ""
    assert kept.to_dict()["text"] == kept.steps[0].text != ""


async def test_the_reading_of_the_prm_changes_rewards_and_the_result_says_so(
    default: AsyncClient, authors: AsyncClient
) -> None:
    """Equal seeds give equal candidates of the first step, which end with the delimiter."""
    found = []
    for client, reading in ((default, ""), (authors, "authors")):
        record = await finished(client)
        assert record.to_dict()["models"]["prm"]["reading"] == reading
        found.append(record.steps[0].proposals[0].candidates)
    ours, theirs = found
    assert [candidate.token_ids for candidate in ours] == [candidate.token_ids for candidate in theirs]
    assert all(candidate.finish_reason == "delimiter" for candidate in ours)
    assert [candidate.reward for candidate in ours] != [candidate.reward for candidate in theirs]
