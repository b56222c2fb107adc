"""Every method through the queue: real processes, the shipped models, and a coordinator that is killed on the way."""

import os
import re
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio

from gsi.algorithm.candidates import Message, Population, Prompt, Source, Trajectory, grow
from gsi.algorithm.methods import METHODS
from gsi.jobs.job_params import JobParams
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.local.demo import held_out_problems
from tests.conftest import wait_until
from tests.routers import write_router
from tests.services.test_system import LEASE_SECONDS
from tests.system import ModelServices, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEYS = Keys("methods")
PROMPT = held_out_problems(1)[0]["prompt"]
STEPWISE = [
    "gsi",
    "gsi-no-rejection",
    "rsd",
    "rsd:logistic=10/0.7",
    "rsd:hybrid",
    "rsd:normalised-hybrid",
    "rsd:budget=0.3",
    "soft-best-of-n",
    "soft-best-of-n:target",
    "arbitrage",
    "best-of-n",
    "spec-reason",
    "conf-spec:verdict:mean:judge_threshold=0.4",
    "specs:switch_threshold=0.9",
    "draft",
    "target",
]
SEARCHING = [
    "best-of-n:responses",
    "best-of-n:minimum:target",
    "soft-best-of-n:responses",
    "gsi:responses",
    "gsi-no-rejection:minimum",
    "majority-vote",
    "beam-search",
    "beam-search:width=2:expansion=3:product",
    "particle-filter",
    "particle-filter:tilted:sample:resample_below=0.5",
    "dvts",
    "confidence-vote",
    "speculative-rejection",
]
ADAPTIVE = ["gsi:n_rule=threshold=0.9", "rsd:n_rule=beacon", "best-of-n:responses:n_rule=pandora=0.1"]
BOTH_BRANCHES = ["arbitrage-oracle"]  # a step that the target wrote may be the one that is dropped
RATED_AT_THE_END = {
    "best-of-n:responses",
    "soft-best-of-n:responses",
    "gsi:responses",
    "best-of-n:responses:n_rule=pandora=0.1",
}
EVERY_METHOD = STEPWISE + SEARCHING + BOTH_BRANCHES + ADAPTIVE


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(model_services: ModelServices, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    router = write_router(tmp_path_factory.mktemp("router"))
    settings = {"GSI_COORDINATOR_LEASE_SECONDS": str(LEASE_SECONDS), "GSI_COORDINATOR_ROUTER": str(router)}
    async with model_services.coordinators(KEYS.queue, num_coordinators=2, settings=settings) as running:
        yield running


async def submitted(system: System, **params: Any) -> str:
    return await system.client.submit({"prompt": PROMPT, "params": {"n": 4, "seed": 7, **params}})


async def finished(system: System, **params: Any) -> JobRecord:
    return await system.finished(await submitted(system, **params))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def recorded(system: System) -> dict[str, tuple[JobRecord, JobRecord]]:
    """Return two runs of every method with the same seed."""
    ids = {
        method: [await submitted(system, method=method, keep_candidates=True) for _ in range(2)]
        for method in EVERY_METHOD
    }
    return {method: (await system.finished(one), await system.finished(two)) for method, (one, two) in ids.items()}


def params_of(record: JobRecord) -> JobParams:
    return JobParams.model_validate_json(record.fields["params"])


def population_of(record: JobRecord) -> Population:
    """Return the trajectories that a finished job ended with, from its records."""
    start = Trajectory(Prompt((Message("user", PROMPT),), (0,)))
    params = params_of(record).to_params()
    population = METHODS[params.method].start(start, params)
    for step in record.steps:
        population = grow(population, step.to_branches())
    return population


def written(steps: Sequence[StepRecord]) -> list[dict[str, Any]]:
    """Return everything of the records but how long it took."""
    found = [{name: value for name, value in step.to_dict().items() if name != "seconds"} for step in steps]
    for fields in found:
        fields["proposals"] = [{**proposal, "seconds": None} for proposal in fields.get("proposals", [])]
    return found


async def test_no_method_is_left_out() -> None:
    """All run here but the one whose target must decode speculatively, which these models do not."""
    assert {method.partition(":")[0] for method in EVERY_METHOD} == set(METHODS) - {"speculative-decoding"}


@pytest.mark.parametrize("method", EVERY_METHOD)
async def test_every_method_answers(
    system: System, recorded: Mapping[str, tuple[JobRecord, JobRecord]], method: str
) -> None:
    """SUCCEEDED, with a text of steps that is one of the trajectories on record."""
    record, _ = recorded[method]
    assert record.state is JobState.SUCCEEDED, record.fields.get("error")
    assert record.fields["stop_reason"] == "eos"
    text = record.fields["text"]
    assert re.search(r"\d+ [-+*] \d+ = \d+", text.partition("\n\n")[0])
    assert text.rstrip().endswith(f"\\boxed{{{record.fields['answer']}}}")
    assert 0 <= int(record.fields["answer"]) < 100
    assert text in [one.text for one in population_of(record)]
    params = params_of(record)
    assert (params.method, params.seed) == (method.partition(":")[0], 7)
    assert params.reward_map is not None
    assert params.reward_map.name == "raw"  # the shipped PRM gives probabilities


@pytest.mark.parametrize("method", EVERY_METHOD)
async def test_equal_seeds_give_equal_records(
    system: System, recorded: Mapping[str, tuple[JobRecord, JobRecord]], method: str
) -> None:
    """Every candidate of every proposal, to the last bit."""
    one, two = recorded[method]
    assert written(one.steps) == written(two.steps)
    assert (one.fields["text"], one.fields["answer"]) == (two.fields["text"], two.fields["answer"])


@pytest.mark.parametrize("method", EVERY_METHOD)
async def test_kept_candidates_have_the_numbers_that_the_method_asked_for(
    system: System, recorded: Mapping[str, tuple[JobRecord, JobRecord]], method: str
) -> None:
    """All of them: rewards where a PRM was asked, and the target's likelihood where both models are compared.

    Whole responses whose score is the last reward have one each.
    """
    record, _ = recorded[method]
    params = params_of(record).to_params()
    asks_rewards = METHODS[params.method].asks_rewards(params)
    asks_likelihoods = METHODS[params.method].asks_likelihoods(params)
    rates_ends = method in RATED_AT_THE_END
    steps = [step.to_dict() for step in record.steps]
    if rates_ends:
        rated = [c for step in steps for p in step["proposals"] for c in p["candidates"] if "reward" in c]
        assert len(rated) == sum(bool(one.steps) for one in population_of(record))
    for step in steps:
        assert sum(len(c["token_ids"]) for p in step["proposals"] for c in p["candidates"]) == (
            step["draft_tokens"] + step["target_tokens"]
        )
        for proposal in step["proposals"]:
            expected = {"token_ids", "text", "finish_reason", "log_likelihood"}
            expected |= {"reward"} if asks_rewards else set()
            expected |= {"log_likelihood_target"} if asks_likelihoods and proposal["source"] == "draft" else set()
            for candidate in proposal["candidates"]:
                assert set(candidate) | ({"reward"} if rates_ends else set()) == expected
                assert candidate["log_likelihood"] <= 0
                assert 0 <= candidate.get("reward", 0.5) <= 1
    if method in STEPWISE:
        num_candidates = 4 if asks_rewards else 1
        assert {len(p["candidates"]) for step in steps for p in step["proposals"]} == {num_candidates}
        last = [step["proposals"][-1] for step in steps]
        kept = [proposal["candidates"][proposal["selected"]]["text"] for proposal in last]
        assert "".join(kept) == record.fields["text"]


@pytest.mark.parametrize("method", BOTH_BRANCHES)
async def test_both_branches_are_on_record(
    system: System, recorded: Mapping[str, tuple[JobRecord, JobRecord]], method: str
) -> None:
    """Of every step, whichever is kept: it is the one with the higher reward."""
    record, _ = recorded[method]
    for step in record.steps:
        drafted, written = step.proposals
        assert (drafted.source, written.source) == (Source.DRAFT, Source.TARGET)
        rewards = [each.candidates[each.selected or 0].reward or 0.0 for each in step.proposals]
        assert step.source is (Source.TARGET if rewards[1] > rewards[0] else Source.DRAFT)
        assert step.reward == max(rewards)


async def test_without_keep_candidates_none_are_kept(system: System) -> None:
    """They are many, and most readers want the steps."""
    record = await finished(system, method="majority-vote")
    assert [step.proposals for step in record.steps] == [()] * len(record.steps)


@pytest.mark.parametrize("method", [method for method in STEPWISE if method.startswith(("spec-reason", "conf-spec"))])
async def test_a_step_of_a_judged_method_says_what_its_judges_said(
    recorded: Mapping[str, tuple[JobRecord, JobRecord]], method: str
) -> None:
    """A score for each step that a model judged, and the step is the draft's if the last of them is high enough."""
    record, _ = recorded[method]
    params = params_of(record).to_params()
    for step in record.steps:
        assert [judgement.source for judgement in step.judgements] in ([Source.TARGET], [Source.DRAFT], [*Source])
        for judgement in step.judgements:
            assert sum(judgement.probabilities) == pytest.approx(1)
            assert len(judgement.probabilities) == len(params.judge_prompt.values)
        last = step.judgements[-1]
        if last.source is Source.TARGET:
            assert (step.source is Source.DRAFT) == (last.score >= params.least_judge_score)


@pytest.mark.parametrize(
    "method",
    [
        "majority-vote",
        "beam-search",
        "conf-spec",
        "particle-filter:tilted",
        "dvts",
        "gsi:responses:u=9",
        "confidence-vote",
        "speculative-rejection",
        "best-of-n:n_rule=beacon",
    ],
)
async def test_a_job_goes_on_where_a_killed_coordinator_left_it(system: System, method: str) -> None:
    """SIGKILL after the first rounds: another coordinator writes what would have been written."""
    params = {"method": method, "n": 16, "max_step_tokens": 4}  # short steps: many rounds, time enough to kill
    undisturbed = await finished(system, **params)
    job_id = await submitted(system, **params)
    await kill_the_coordinator_of(system, job_id)
    record = await system.finished(job_id)
    assert (undisturbed.fields["attempt"], record.fields["attempt"]) == ("1", "2")
    assert record.state is JobState.SUCCEEDED
    assert (record.fields["text"], record.fields["stop_reason"]) == (
        undisturbed.fields["text"],
        undisturbed.fields["stop_reason"],
    )
    assert written(record.steps) == written(undisturbed.steps)


async def kill_the_coordinator_of(system: System, job_id: str) -> None:
    """Kill -9 the coordinator that runs the job once it has kept a round."""

    async def has_kept_a_round() -> bool:
        return bool(await system.redis.exists(KEYS.steps(job_id)))

    await wait_until(has_kept_a_round, "a round is kept")
    state, worker = await system.redis.hmget(KEYS.record(job_id), "state", "worker")
    assert state == b"RUNNING", "the job was finished before its coordinator could be killed"
    os.kill(int(worker.split(b"-")[-2]), signal.SIGKILL)


@pytest.mark.parametrize("method", SEARCHING)
async def test_max_tokens_holds_for_every_trajectory_of_a_search(system: System, method: str) -> None:
    """Each ends with as many tokens as a job may have, or before."""
    record = await finished(system, method=method, max_tokens=25)
    lengths = [one.num_step_tokens for one in population_of(record)]
    assert record.state is JobState.SUCCEEDED
    assert max(lengths) == 25
    assert record.fields["stop_reason"] == "max_tokens"


async def test_speculative_decoding_needs_an_engine_that_does_it(system: System) -> None:
    """The error says which setting makes it so; it is the same for a resampling."""
    advice = (
        " needs a target whose engine decodes speculatively, and this one does not: "
        "GSI_TARGET_ENGINE_ARGS=\"--speculative-config '…'\" makes a vLLM engine do so"
    )
    for method, field in (
        ("speculative-decoding", "params.method: speculative-decoding"),
        ("rsd:speculative", "params.resample: speculative"),
    ):
        record = await finished(system, method=method)
        assert (record.state, record.fields["error"]) == (JobState.FAILED, field + advice)


@pytest.mark.parametrize("method", ["draft", "target"])
async def test_a_model_alone_at_temperature_0_is_the_same_for_every_seed(system: System, method: str) -> None:
    """Greedy: the likeliest token each time, so its likelihood is 1."""
    records = [await finished(system, method=method, temperature=0, seed=seed) for seed in range(4)]
    assert len({record.fields["text"] for record in records}) == 1
    source = Source(method)
    likelihoods = {
        step.log_likelihood_draft if source is Source.DRAFT else step.log_likelihood_target for step in records[0].steps
    }
    assert likelihoods == {0.0}
    others = {(await finished(system, method=method, seed=seed)).fields["text"] for seed in range(4)}
    assert len(others) > 1


@pytest.mark.parametrize("method", ["gsi", "gsi-no-rejection", "rsd:likelihood-ratio"])
async def test_a_likelihood_ratio_at_temperature_0_is_refused(system: System, method: str) -> None:
    """Pushed by hand, so that it is the coordinator that refuses: FAILED, with the field named."""
    payload = f'{{"prompt":"x","params":{{"method":"{method}","temperature":0}}}}'
    record = await system.finished(await system.push(payload))
    assert record.state is JobState.FAILED
    assert record.fields["error"].startswith("params.temperature: 0 is greedy")
