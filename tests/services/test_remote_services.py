"""Services whose models are behind model servers: a job through two kinds of them, and one that is lost meanwhile."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from gsi.algorithm.params import Likelihood
from gsi.engines.base import EngineSettings
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.jobs.state import JobState
from gsi.local.embedded_redis import free_port
from services.draft import servicer as draft_servicer
from services.target import servicer as target_servicer
from tests.conftest import MODELS, wait_until
from tests.engines.model_servers import TableModel, llamacpp_server, sglang_server
from tests.services.conftest import Serving, serving
from tests.system import ModelServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOB: dict[str, Any] = {
    "prompt": "What is 1 + 1?",
    "params": {
        "n": 4,
        "seed": 5,
        "likelihood": "model",
        "max_step_tokens": 24,
        "max_steps": 4,
        "keep_candidates": True,
    },
}
SECRET = "hunter2"


@asynccontextmanager
async def service(role: str, url: str) -> AsyncIterator[Serving]:
    """Run a draft or target service on a model server."""
    servicer: Any = {"draft": draft_servicer, "target": target_servicer}[role]
    settings = EngineSettings(str(MODELS / "target"), remote_url=url, role=role, likelihood=Likelihood.MODEL)
    load = partial(LANGUAGE_ENGINES.load, "remote", settings)
    async with serving(servicer.SERVICE, servicer.add_to_server, load) as running:
        yield running


async def test_a_job_runs_with_a_draft_on_llamacpp_and_a_target_on_sglang(model_services: ModelServices) -> None:
    """The records have the likelihoods of both models, which are one table here: every log ratio is 0."""
    async with (
        llamacpp_server(TableModel()).listen() as small,
        sglang_server(TableModel()).listen() as large,
        service("draft", small.url) as draft,
        service("target", large.url) as target,
    ):
        settings = {"GSI_COORDINATOR_DRAFT": draft.address, "GSI_COORDINATOR_TARGET": target.address}
        async with model_services.coordinators("remote", settings=settings) as running:
            record = await running.finished(await running.client.submit(JOB))
    assert record.state is JobState.SUCCEEDED, record.fields
    drafted = [c for step in record.steps for p in step.proposals if p.source == "draft" for c in p.candidates]
    assert drafted
    for candidate in drafted:
        assert candidate.log_likelihood == pytest.approx(candidate.log_likelihood_target, abs=1e-6)


async def test_a_server_that_is_lost_costs_no_job(model_services: ModelServices) -> None:
    """Its service answers UNAVAILABLE; the job waits, and goes on when the server is back."""
    async with llamacpp_server(TableModel()).listen() as small, service("draft", small.url) as draft:
        large = sglang_server(TableModel())
        async with large.listen(), service("target", large.url) as target:
            settings = {"GSI_COORDINATOR_DRAFT": draft.address, "GSI_COORDINATOR_TARGET": target.address}
            async with model_services.coordinators("remote-lost", settings=settings) as running:
                await running.finished(await running.client.submit(JOB))
                large.drops = 10_000
                job_id = await running.client.submit(JOB)

                async def waits() -> bool:
                    return any("cannot be reached" in str(event) for _, event in running.events)

                await wait_until(waits, "the job waits for the server")
                large.drops = 0
                record = await running.finished(job_id)
    assert record.state is JobState.SUCCEEDED, record.fields


async def test_a_service_whose_server_stays_away_says_so_and_ends() -> None:
    """It waits with a line in its log; its last line names the address, and none has the key."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("GSI_")}
    settings = {
        "GSI_TARGET_LISTEN": "127.0.0.1:0",
        "GSI_TARGET_MODEL": str(MODELS / "target"),
        "GSI_TARGET_ENGINE": "remote",
        "GSI_TARGET_REMOTE_URL": f"http://127.0.0.1:{free_port()}",
        "GSI_TARGET_REMOTE_API_KEY": SECRET,
        "GSI_TARGET_REMOTE_WAIT_SECONDS": "1",
        "GSI_TARGET_LIKELIHOOD": "model",
        "GSI_TARGET_LOG_LEVEL": "debug",
    }
    command = [sys.executable, "-m", "services.target"]
    ran = await asyncio.to_thread(
        subprocess.run, command, env=mine | settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert "waiting for the model server" in ran.stderr
    last = ran.stderr.splitlines()
    assert any(settings["GSI_TARGET_REMOTE_URL"] in line and "cannot start" in line for line in last)
    assert SECRET not in ran.stderr
