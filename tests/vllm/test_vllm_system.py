"""The whole system with all three roles on vLLM: compared with transformers, and with engines that are killed."""

import asyncio
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from gsi.algorithm.candidates import Outcome
from gsi.client.sdk import AsyncClient
from gsi.evaluation.estimates import Estimate, estimate_ratio, estimate_share
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from gsi.local.stack import Stack, local_stack
from tests.conftest import wait_until
from tests.services.test_local_stack import children_of, is_alive
from tests.system import SHALLOW_TARGET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

NUM_PROBLEMS = 200
DEMO_PROBLEMS = 24

Events = list[tuple[str, Mapping[str, Any]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, AsyncClient, Events]]:
    events: Events = []
    folder = tmp_path_factory.mktemp("vllm")
    stack = local_stack(
        folder, lambda name, event: events.append((name, event)), engine="vllm", settings=SHALLOW_TARGET
    )
    async with stack as running, AsyncClient(running.redis_url) as client:
        yield running, client, events


async def run_jobs(client: AsyncClient, problems: Sequence[Mapping[str, str]], **params: Any) -> list[JobRecord]:
    """Run each problem once, with its position as its seed."""
    ids = [
        await client.submit({"prompt": problem["prompt"], "params": {"n": 4, **params, "seed": seed}})
        for seed, problem in enumerate(problems)
    ]
    return list(await asyncio.gather(*(client.wait(job_id) for job_id in ids)))


def tokens(records: Sequence[JobRecord]) -> list[list[tuple[int, ...]]]:
    return [[step.token_ids for step in record.steps] for record in records]


def overlap(ours: Estimate, theirs: Estimate) -> bool:
    return ours.low <= theirs.high and theirs.low <= ours.high


@pytest.mark.timeout(600)
async def test_accuracy_and_acceptance_are_those_of_the_transformers_engine(
    system: tuple[Stack, AsyncClient, Events], tmp_path: Path
) -> None:
    """Over 200 held-out problems the 95 % intervals overlap: another engine, the same method."""
    _, client, _ = system
    problems = held_out_problems(NUM_PROBLEMS, skip=DEMO_PROBLEMS)
    on_vllm = await run_jobs(client, problems)
    async with (
        local_stack(tmp_path, lambda *_: None, engine="transformers", settings=SHALLOW_TARGET) as stack,
        AsyncClient(stack.redis_url) as reference,
    ):
        on_transformers = await run_jobs(reference, problems)
    for records in (on_vllm, on_transformers):
        assert {record.state for record in records} == {JobState.SUCCEEDED}

    def right(records: Sequence[JobRecord]) -> Estimate:
        answers = zip(records, problems, strict=True)
        return estimate_share([float(r.fields["answer"] == p["expected"]) for r, p in answers], len(problems))

    def accepted(records: Sequence[JobRecord]) -> Estimate:
        kept = [sum(step.outcome is Outcome.ACCEPTED for step in r.steps) for r in records]
        return estimate_ratio(kept, [len(r.steps) for r in records])

    assert overlap(right(on_vllm), right(on_transformers))
    assert overlap(accepted(on_vllm), accepted(on_transformers))


async def test_the_same_seeds_give_the_same_tokens(system: tuple[Stack, AsyncClient, Events]) -> None:
    """This can be promised in single precision on a CPU, whatever else the engines do at the time."""
    _, client, _ = system
    problems = held_out_problems(12)
    together = await run_jobs(client, problems)
    alone = [(await run_jobs(client, [problem]))[0] for problem in problems[:1]]
    assert tokens(together)[:1] == tokens(alone)
    assert tokens(await run_jobs(client, problems)) == tokens(together)


async def test_a_job_of_another_temperature_is_refused(system: tuple[Stack, AsyncClient, Events]) -> None:
    """The engines report likelihoods of one temperature; a ratio at another temperature would mean nothing."""
    _, client, _ = system
    (record,) = await run_jobs(client, held_out_problems(1), temperature=1.0)
    assert record.state is JobState.FAILED
    assert (
        "params.temperature: 1.0 is not the one that these engines report likelihoods of; allowed: 0.7"
        in (record.fields["error"])
    )


async def test_vllm_s_own_metrics_are_served_beside_ours(system: tuple[Stack, AsyncClient, Events]) -> None:
    """They tell of waiting and running requests and of the cache; no likelihood was computed again."""
    stack, _, _ = system
    samples = metrics(stack, "target")
    for name in (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_queries_total",
    ):
        assert name in samples
    assert samples["vllm:prefix_cache_hits_total"] > 0
    assert samples["gsi_scores_recomputed_total"] == 0


def metrics(stack: Stack, process: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{stack.metrics[process]}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples}


@pytest.mark.parametrize("role", ["target", "prm"])
async def test_a_killed_engine_process_costs_a_restart_and_no_job(
    system: tuple[Stack, AsyncClient, Events], role: str
) -> None:
    """The service ends with a code other than 0 and is started again; the jobs end as they would have."""
    stack, client, events = system
    problems = held_out_problems(12)
    undisturbed = tokens(await run_jobs(client, problems))
    running = asyncio.create_task(run_jobs(client, problems))
    service = stack.processes[role].pid
    await asyncio.sleep(0.5)
    (engine,) = (pid for pid in children_of(service) if is_engine(pid))
    events.clear()
    os.kill(engine, signal.SIGKILL)
    records = await running
    assert tokens(records) == undisturbed
    assert {record.state for record in records} == {JobState.SUCCEEDED}
    assert stack.processes[role].pid != service
    assert not is_alive(service)
    logged = [(name, event["event"]) for name, event in events]
    assert (role, "the engine died; this process is to be started again") in logged
    assert (role, "ended with code 70; starting it again in 1 s") in logged


def is_engine(pid: int) -> bool:
    """Return whether a child runs vLLM's engine (another one tracks multiprocessing's resources)."""
    return b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_no_engine_outlives_a_service_that_is_killed(system: tuple[Stack, AsyncClient, Events]) -> None:
    """It would keep the GPU's memory, and the restarted service could not load its model."""
    stack, client, _ = system
    engines = [pid for pid in children_of(stack.processes["draft"].pid) if is_engine(pid)]
    assert len(engines) == 1
    os.kill(stack.processes["draft"].pid, signal.SIGKILL)

    async def is_gone() -> bool:
        return not is_alive(engines[0])

    await wait_until(is_gone, "the engine has ended with its service")
    (record,) = await run_jobs(client, held_out_problems(1))
    assert record.state is JobState.SUCCEEDED
