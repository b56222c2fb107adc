"""Every method with all three roles on vLLM, and a target whose engine decodes speculatively."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gsi.algorithm.candidates import Source
from gsi.algorithm.methods import METHODS
from gsi.client.sdk import AsyncClient
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from gsi.local.stack import local_stack
from tests.conftest import MODELS
from tests.routers import write_router
from tests.system import SHALLOW_TARGET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

SPECULATIVE = (
    f'{{"method": "draft_model", "model": "{MODELS / "draft"}", "num_speculative_tokens": 4, "max_model_len": 512}}'
)
NUM_PROBLEMS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsyncClient]:
    settings = SHALLOW_TARGET | {"GSI_TARGET_ENGINE_ARGS": f"--speculative-config '{SPECULATIVE}'"}
    settings |= {"GSI_COORDINATOR_ROUTER": str(write_router(tmp_path_factory.mktemp("router")))}
    stack = local_stack(tmp_path_factory.mktemp("vllm"), lambda *_: None, engine="vllm", settings=settings)
    async with stack as running, AsyncClient(running.redis_url) as connected:
        yield connected


async def run_jobs(client: AsyncClient, method: str, seeds: int = 1) -> list[JobRecord]:
    ids = [
        await client.submit(
            {"prompt": problem["prompt"], "params": {"method": method, "seed": seed, "keep_candidates": True}}
        )
        for problem in held_out_problems(NUM_PROBLEMS)
        for seed in range(seeds)
    ]
    records = list(await asyncio.gather(*(client.wait(job_id) for job_id in ids)))
    assert [(record.state, record.fields["error"]) for record in records] == [(JobState.SUCCEEDED, "")] * len(ids)
    return records


@pytest.mark.parametrize(
    "method",
    [
        *(f"{method}:n=4" for method in METHODS if method not in {"draft", "target", "speculative-decoding"}),
        "rsd:hybrid:n=4",
        "soft-best-of-n:target:n=4",
        "best-of-n:product:n=4",
        "gsi:speculative:n=4",
        "rsd:speculative:binary=0.9:n=1",
        "draft",
        "target",
        "speculative-decoding",
    ],
)
async def test_every_method_ends_with_an_answer(client: AsyncClient, method: str) -> None:
    """All methods ask the engines in the same way."""
    for record in await run_jobs(client, method):
        assert record.fields["text"].strip()
        assert record.fields["stop_reason"] in {"eos", "answer"}


async def test_speculative_decoding_is_the_target_s_own_work(client: AsyncClient) -> None:
    """All steps are the target's; its engine's drafts are no part of the job, and the result names their number."""
    for record in await run_jobs(client, "speculative-decoding"):
        assert {step.source for step in record.steps} == {Source.TARGET}
        assert sum(step.draft_tokens for step in record.steps) == 0
        assert record.to_dict()["models"]["target"]["num_speculative_tokens"] == 4


async def test_greedy_decoding_does_not_depend_on_the_seed(client: AsyncClient) -> None:
    """The engine's own temperature is 0.7, and its target writes several tokens at once."""
    for method in ("draft:temperature=0", "speculative-decoding:temperature=0"):
        records = await run_jobs(client, method, seeds=2)
        texts = [record.fields["text"] for record in records]
        assert texts[::2] == texts[1::2]
