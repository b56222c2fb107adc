"""Engine ``remote`` against a real, stock ``vllm serve`` for each role: the contract, and a job through all of them."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr

from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.client.sdk import AsyncClient
from gsi.engines.base import EngineSettings
from gsi.engines.on_remote.language import RemoteEngine
from gsi.engines.on_remote.reward import RemoteRewardEngine
from gsi.errors import MisconfiguredError
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from gsi.local.stack import local_stack
from tests.conftest import MODELS, wait_until
from tests.engines.contract import (
    MESSAGES,
    LanguageEngineContract,
    RewardEngineContract,
    law,
    propose_all,
    reference_log_likelihood,
    score_all,
)
from tests.vllm.served import Served, served

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]

KEY = "a key of the target's server"
EVERY_TOKEN = '{"pooling_type": "ALL"}'  # vLLM knows the mark of Qwen's own vocabulary, not that of the shipped one
ROUNDING = 1e-3  # nats over a step: a whole prompt is read in other shapes than those in which it was written


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Served]]:
    folder = tmp_path_factory.mktemp("served")
    with (
        served("draft", folder) as draft,
        served("target", folder, "--enable-scale-out", environment={"VLLM_API_KEY": KEY}) as target,
        served("prm", folder, "--runner", "pooling", "--pooler-config", EVERY_TOKEN) as prm,
    ):
        found = {"draft": draft, "target": target, "prm": prm}
        for server in found.values():
            server.wait()
        yield found


def target_settings(servers: Mapping[str, Served], **other: Any) -> EngineSettings:
    wanted = {"likelihood": Likelihood.MODEL, "remote_api_key": SecretStr(KEY), "role": "target", **other}
    return EngineSettings(str(MODELS / "target"), remote_url=servers["target"].url, **wanted)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(servers: Mapping[str, Served]) -> AsyncIterator[RemoteEngine]:
    engine = await RemoteEngine.load(target_settings(servers))
    yield engine
    await engine.http.wait_closed()


class TestRemoteEngine(LanguageEngineContract):
    """The shared contract, with the likelihood of the bare model, at any temperature up to 2."""

    tolerance = ROUNDING


class TestRemoteRewardEngine(RewardEngineContract):
    """The shared contract, on vLLM's own class of Qwen2.5-Math-PRM."""

    @pytest_asyncio.fixture(scope="class", loop_scope="module")
    async def engine(self, servers: Mapping[str, Served]) -> AsyncIterator[RemoteRewardEngine]:
        engine = await RemoteRewardEngine.load(
            EngineSettings(str(MODELS / "prm"), remote_url=servers["prm"].url, role="prm")
        )
        yield engine
        await engine.http.wait_closed()


async def test_at_temperature_1_sampling_is_reported(servers: Mapping[str, Served]) -> None:
    """The law that is sampled from is then the bare model's."""
    engine = await RemoteEngine.load(target_settings(servers, likelihood=Likelihood.SAMPLING, temperature=1.0))
    assert (engine.info.likelihoods, engine.info.temperature) == ((Likelihood.SAMPLING,), 1.0)
    sampling = law(engine)
    candidates = await propose_all(engine, 8, sampling)
    prefix = engine.render(MESSAGES)
    expected = [reference_log_likelihood(prefix, candidate.token_ids, sampling) for candidate in candidates]
    assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=ROUNDING)
    assert await score_all(engine, candidates, sampling) == pytest.approx(expected, abs=ROUNDING)
    await engine.http.wait_closed()


async def test_a_wrong_key_is_named(servers: Mapping[str, Served]) -> None:
    """The service stops at its start, and does not tell the key."""
    with pytest.raises(MisconfiguredError, match=r"answers 401, .*; set the API key of this server") as refused:
        await RemoteEngine.load(target_settings(servers, remote_api_key=SecretStr("another key")))
    assert "another key" not in str(refused.value)


async def test_a_folder_without_weights_is_enough(servers: Mapping[str, Served], tmp_path: Path) -> None:
    """The tokenizer and config.json are read here; the weights are the server's."""
    for file in (MODELS / "target").iterdir():
        if file.suffix in {".json", ".jinja"}:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = dataclasses.replace(target_settings(servers), model=str(tmp_path))
    engine = await RemoteEngine.load(settings)
    assert engine.info.num_parameters is not None
    await engine.http.wait_closed()


async def test_a_closed_proposal_is_aborted_by_the_server(engine: RemoteEngine, servers: Mapping[str, Served]) -> None:
    """By vLLM's own count no request runs or waits a moment after the caller has gone."""
    endless = SamplingParams(temperature=2.0, max_step_tokens=400, likelihood=Likelihood.MODEL)
    asking = asyncio.create_task(anext(engine.propose(engine.render(MESSAGES), 256, endless, 0)))
    async with httpx2.AsyncClient() as client:

        async def count() -> float:
            text = (await client.get(f"{servers['target'].url}/metrics")).text
            names = ("vllm:num_requests_running{", "vllm:num_requests_waiting{")
            return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(names))

        async def is_busy() -> bool:
            return await count() > 0

        async def is_free() -> bool:
            return await count() == 0

        await wait_until(is_busy, "the server works")
        asking.cancel()
        await wait_until(is_free, "the server has no request left")


async def test_a_job_runs_through_three_servers(servers: Mapping[str, Served], tmp_path: Path) -> None:
    """Real services, each of which asks a server; the answers are right, and the same for the same seeds."""
    settings = {f"GSI_{role.upper()}_REMOTE_URL": server.url for role, server in servers.items()}
    settings |= {"GSI_TARGET_REMOTE_API_KEY": KEY, "GSI_DRAFT_LIKELIHOOD": "model", "GSI_TARGET_LIKELIHOOD": "model"}
    problems = held_out_problems(6)
    params = {"n": 4, "likelihood": "model"}
    async with (
        local_stack(tmp_path, lambda *_: None, engine="remote", settings=settings) as stack,
        AsyncClient(stack.redis_url) as client,
    ):
        rounds = []
        for _ in range(2):
            ids = [
                await client.submit({"prompt": problem["prompt"], "params": {**params, "seed": seed}})
                for seed, problem in enumerate(problems)
            ]
            rounds.append([await client.wait(job_id) for job_id in ids])
    first, again = rounds
    assert {record.state for record in (*first, *again)} == {JobState.SUCCEEDED}
    right = [record.fields["answer"] == problem["expected"] for record, problem in zip(first, problems, strict=True)]
    assert sum(right) >= len(problems) // 2
    assert [[s.token_ids for s in r.steps] for r in first] == [[s.token_ids for s in r.steps] for r in again]
