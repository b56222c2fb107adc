"""The whole system: real processes, real gRPC, a real Redis-protocol server, real models; and what may go wrong.

Two coordinators serve all tests of this file, so each also shows that the one before left no harm.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from tests.conftest import wait_until
from tests.services.test_metrics import declarations
from tests.system import WAIT_SECONDS, ModelServices, System
from tests.test_docs import base_name

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEYS = Keys("system")
NUM_JOBS = 10
PARAMS = {"n": 8}
LEASE_SECONDS = 2.0
GSI = str(Path(sys.executable).parent / "gsi")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(model_services: ModelServices) -> AsyncIterator[System]:
    settings = {
        "GSI_COORDINATOR_LEASE_SECONDS": str(LEASE_SECONDS),
        "GSI_COORDINATOR_NEWER_JOB_SECONDS": "0",  # nobody newer comes
    }
    async with model_services.coordinators(KEYS.queue, num_coordinators=2, settings=settings) as running:
        yield running


async def submit_recorded_run(system: System) -> list[str]:
    """Submit the same problems with the same seeds as every time."""
    return [
        await system.client.submit({"prompt": problem["prompt"], "params": {**PARAMS, "seed": seed}})
        for seed, problem in enumerate(held_out_problems(NUM_JOBS))
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def recorded(system: System) -> list[list[dict[str, Any]]]:
    """The steps of a run that nothing disturbed."""
    records = [await system.finished(job_id) for job_id in await submit_recorded_run(system)]
    assert [record.state for record in records] == [JobState.SUCCEEDED] * NUM_JOBS
    return [written(record) for record in records]


def written(record: JobRecord) -> list[dict[str, Any]]:
    """Return everything of the steps but how long they took."""
    return [{k: v for k, v in step.to_dict().items() if k != "seconds"} for step in record.steps]


async def test_a_run_with_fixed_seeds_is_the_same_when_run_twice(
    system: System, recorded: list[list[dict[str, Any]]]
) -> None:
    """Every token and every number, to the last bit."""
    ids = await submit_recorded_run(system)
    assert [written(await system.finished(job_id)) for job_id in ids] == recorded


async def test_a_run_is_the_same_when_its_coordinator_is_killed_in_the_middle(
    system: System, recorded: list[list[dict[str, Any]]]
) -> None:
    """Another coordinator resumes after the last kept step, and writes what the first would have written."""
    ids = await submit_recorded_run(system)
    victim = await killed_in_the_middle(system, ids)
    records = [await system.finished(job_id) for job_id in ids]
    assert [written(record) for record in records] == recorded
    by_id = {record.id: record for record in records}
    assert by_id[victim].fields["attempt"] == "2"
    announced = [fields[b"id"].decode() for _, fields in await system.redis.xrange(KEYS.results)]
    assert sorted(announced[-NUM_JOBS:]) == sorted(ids)


async def killed_in_the_middle(system: System, ids: list[str]) -> str:
    """Kill -9 a coordinator that has kept a step of a job and not yet its last; return the job's id."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            for job_id in ids:
                fields = await system.redis.hmget(KEYS.record(job_id), "state", "num_steps", "worker")
                if fields[0] == b"RUNNING" and fields[1] in {b"1", b"2"}:
                    os.kill(int(fields[2].split(b"-")[-2]), signal.SIGKILL)
                    return job_id


async def test_a_service_that_is_down_is_waited_for(system: System, recorded: list[list[dict[str, Any]]]) -> None:
    """Jobs in flight resume when the service serves again, none is lost, and each coordinator logs the service once."""
    before = {name: len(waits(system, name)) for name in coordinators(system)}
    ids = await submit_recorded_run(system)
    await first_step_of_one(system, ids)
    os.kill(system.stack.processes["target"].pid, signal.SIGKILL)
    assert [written(await system.finished(job_id)) for job_id in ids] == recorded
    for name in coordinators(system):
        new = waits(system, name)[before[name] :]
        assert [event["service"] for event in new] in ([], ["target"])
    assert any(len(waits(system, name)) > before[name] for name in coordinators(system))


def coordinators(system: System) -> list[str]:
    return [name for name in system.stack.processes if name.startswith("coordinator")]


def waits(system: System, name: str) -> list[Mapping[str, Any]]:
    return system.logged(name, "service is not serving; jobs wait for it")


async def first_step_of_one(system: System, ids: list[str]) -> None:
    async def has_begun() -> bool:
        return bool(await system.redis.exists(*map(KEYS.steps, ids)))

    await wait_until(has_begun, "a step is kept")


GOOD = json.dumps({"prompt": held_out_problems(1)[0]["prompt"], "params": {"n": 1}})


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("not json", "job: not JSON"),
        (b"\xff\xfe", "job: not JSON"),
        ("[1]", "job: [1] is not allowed; allowed: an object"),
        ("[" * 100_000, "job: too many names and values"),
        ('{"v":1}', "prompt: missing; allowed: text of 1 to 1000000 characters"),
        ('{"v":2,"prompt":"x"}', "v: 2 is not allowed; allowed: 1"),
        (
            '{"prompt":"x","params":{"beta":0}}',
            "params.beta: 0 is not allowed; allowed: a number from 0.000001 to 1000000",
        ),
        (
            '{"prompt":"x","params":{"beta":-1}}',
            "params.beta: -1 is not allowed; allowed: a number from 0.000001 to 1000000",
        ),
        ('{"prompt":"x","params":{"n":0}}', "params.n: 0 is not allowed; allowed: a whole number from 1 to 256"),
        (
            '{"prompt":"x","params":{"n":10000}}',
            "params.n: 10000 is not allowed; allowed: a whole number from 1 to 256",
        ),
        ('{"prompt":"x","params":{"bta":1}}', "params.bta: unknown; did you mean beta?"),
        ('{"prompt":"x","parms":{}}', "parms: unknown; did you mean params?"),
        (json.dumps({"prompt": "7" * 600}), "prompt: 608 tokens by the model's chat template; allowed: 1 to 510"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_a_bad_job_fails_with_a_sentence_and_the_next_one_succeeds(
    system: System, payload: str | bytes, error: str
) -> None:
    """The error names the field and what is allowed; the coordinators keep running."""
    bad, good = await system.push(payload), await system.push(GOOD)
    record = await system.finished(bad)
    assert record.state is JobState.FAILED
    assert error in record.fields["error"]
    assert (await system.finished(good)).state is JobState.SUCCEEDED


async def test_an_entry_with_a_wrong_field_id_fails_under_its_own_id(system: System) -> None:
    """``x:steps`` is no job's id, but a key of the queue: the entry would come back for ever."""
    entry = (await system.redis.xadd(KEYS.jobs, {"job": '{"prompt":"x","id":"x"}', "id": "x:steps"})).decode()
    record = await system.finished(entry)
    assert record.state is JobState.FAILED
    assert record.fields["error"].startswith('id: "x:steps" in the entry\'s field id is not allowed; allowed: ')
    assert not await system.redis.exists(KEYS.record("x"), KEYS.record("x:steps"))


async def test_every_entry_is_freed_when_its_job_is_done(system: System) -> None:
    """Good or bad, killed or not: nothing stays in the stream."""
    groups = await system.redis.xinfo_groups(KEYS.jobs)
    assert (await system.redis.xlen(KEYS.jobs), groups[0]["pending"], groups[0]["lag"]) == (0, 0, 0)


async def test_metrics_tell_what_happened(system: System, recorded: list[list[dict[str, Any]]]) -> None:
    """Acceptance, seconds, tokens, candidates and jobs at the coordinators; RPCs at the services; no GPU, no series."""
    totals: dict[str, float] = {}
    for name in coordinators(system):
        for sample, value in system.metrics(name).items():
            totals[sample] = totals.get(sample, 0) + value
    assert totals["gsi_steps_total outcome=accepted"] > totals["gsi_steps_total outcome=resampled"] > 0
    assert totals["gsi_jobs_total state=SUCCEEDED"] > 0
    assert totals["gsi_jobs_total state=FAILED"] > 0
    assert totals["gsi_redeliveries_total"] > 0
    assert totals["gsi_jobs_in_flight"] == 0
    for phase in ("draft", "score", "resample", "checkpoint"):
        assert totals[f"gsi_phase_seconds_count phase={phase}"] > 0
    for role in ("target", "prm"):
        assert totals[f"gsi_scoring_seconds_sum role={role}"] > 0
        assert totals[f"gsi_service_serving role={role}"] == len(coordinators(system))
    assert totals["gsi_redis_reachable"] == len(coordinators(system))
    for role, kind in (("draft", "proposed"), ("target", "scored"), ("prm", "scored"), ("draft", "kept")):
        assert totals[f"gsi_tokens_total kind={kind} role={role}"] > 0
    for name in ("gsi_step_seconds", "gsi_job_seconds", "gsi_reward", "gsi_tilted_reward", "gsi_log_ratio"):
        assert totals[f"{name}_count"] > 0
    assert totals["gsi_candidates_total role=draft"] > 0
    assert {"gsi_stream_lag", "gsi_stream_pending"} <= totals.keys()
    for role in ("draft", "target", "prm"):
        own = system.metrics(role)
        method = "Propose" if role == "draft" else "Score"
        assert own[f"gsi_rpc_seconds_count code=OK method={method} service={role.capitalize()}Service"] > 0


async def test_every_coordinator_tells_of_a_pause(system: System) -> None:
    """From the next look at the queue on, and of its end as well."""
    for pause, shown in ((system.client.admin.pause, 1), (system.client.admin.resume, 0)):
        before = {system.metrics(name)["gsi_queue_paused"] for name in coordinators(system)}
        assert before == {1 - shown}
        await pause()

        async def is_shown(value: float = shown) -> bool:
            return {system.metrics(name)["gsi_queue_paused"] for name in coordinators(system)} == {value}

        await wait_until(is_shown, f"gsi_queue_paused is {shown}")


async def test_a_step_s_time_is_in_its_phases(system: System, recorded: list[list[dict[str, Any]]]) -> None:
    """One of each a step; together nearly all of the time that jobs were run, and never more than that."""

    def totals() -> dict[str, float]:
        samples = [system.metrics(name) for name in coordinators(system)]
        names = {name for of in samples for name in of if name.startswith("gsi_")}
        return {name: sum(of.get(name, 0) for of in samples) for name in names}

    before = totals()
    for job_id in await submit_recorded_run(system):
        await system.finished(job_id)

    async def is_idle() -> bool:
        return totals()["gsi_jobs_in_flight"] == 0

    await wait_until(is_idle, "the runs have ended, a moment after their jobs")
    added = {name: value - before.get(name, 0) for name, value in totals().items()}
    num_steps = sum(len(steps) for steps in recorded)
    for phase in ("draft", "score", "checkpoint", "wait", "overhead"):
        assert added[f"gsi_phase_seconds_count phase={phase}"] == num_steps
    assert sum(value for name, value in added.items() if name.startswith("gsi_steps_by_index_total")) == num_steps
    assert added["gsi_acceptance_margin_count"] == num_steps
    phases = sum(value for name, value in added.items() if name.startswith("gsi_phase_seconds_sum"))
    assert 0.8 * added["gsi_job_seconds_sum"] < phases < added["gsi_job_seconds_sum"]


async def test_every_series_has_the_labels_and_values_of_its_document(system: System) -> None:
    """Of all processes, after all that the tests before have done to them."""
    declared = {declaration.name: declaration for declaration in declarations()}
    for process in system.stack.processes:
        ours = [sample for sample in system.metrics(process) if re.match(r"gsi_(?!\w+_created)", sample)]
        assert ours
        for sample in ours:
            name, *labels = re.split(r" (?=\w+=)", sample)
            values = dict(label.split("=", 1) for label in labels)
            of = declared[base_name(name)]
            assert set(values) == set(of.labels)
            assert all(
                isinstance(of.labels[label], str) or value in of.labels[label] for label, value in values.items()
            )


async def test_gpu_series_exist_where_a_gpu_does_and_their_absence_is_logged_once(system: System) -> None:
    """Nobody looks at a dashboard of zeros."""
    has_driver = Path("/dev/nvidiactl").exists()
    for name in system.stack.processes:
        assert any(sample.startswith("gsi_gpu") for sample in system.metrics(name)) == has_driver
    assert len(system.logged("draft", "no GPU metrics: gsi_gpu_* are absent")) == (0 if has_driver else 1)


async def command(system: System, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a user does."""
    environment = {**os.environ, **system.environment}
    return await asyncio.to_thread(
        subprocess.run, [GSI, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_person_submits_follows_and_reads_a_result(system: System) -> None:
    """The three commands, and nothing on standard output but what was asked for."""
    submitted = await command(system, "submit", held_out_problems(1)[0]["prompt"], "-p", "n=4", "-p", "seed=1")
    job_id = submitted.stdout.strip()
    followed = (await command(system, "follow", job_id)).stdout
    assert re.search(r"1  draft +.* \d+ [-+*] \d+ = \d+", followed)
    assert "accepted" in followed
    assert "SUCCEEDED (eos)" in followed
    result = json.loads((await command(system, "result", job_id, "--json")).stdout)
    assert (result["state"], result["params"]["n"], result["params"]["likelihood"]) == ("SUCCEEDED", 4, "sampling")
    assert result["text"] == "".join(step["text"] for step in result["steps"])


async def test_a_job_is_submitted_and_followed_in_one_command(system: System) -> None:
    """Its id, its steps, its end; and a script sees by the exit code whether there is an answer."""
    prompt = held_out_problems(1)[0]["prompt"]
    good = await command(system, "submit", "--follow", "-p", "n=4", "-p", "seed=1", prompt)
    assert good.returncode == 0
    assert re.search(r"1  draft +.* \d+ [-+*] \d+ = \d+", good.stdout)
    assert "SUCCEEDED (eos)" in good.stdout
    bad = await command(system, "submit", "--follow", "x " * 4000)
    assert bad.returncode == 1
    assert "FAILED  prompt: " in bad.stdout


async def test_many_jobs_are_submitted_from_a_file(system: System, tmp_path: Path) -> None:
    """One id a line; nothing is pushed if one line is wrong, and the error names it."""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(f"{GOOD}\n\n{GOOD}\n")
    bad.write_text(f'{GOOD}\n{{"prompt":"x","params":{{"n":0}}}}\n')
    ids = (await command(system, "submit", "--file", str(good))).stdout.split()
    assert [(await system.finished(job_id)).state for job_id in ids] == [JobState.SUCCEEDED] * 2
    refused = await command(system, "submit", "--file", str(bad))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "line 2: params.n: 0 is not allowed; allowed: a whole number from 1 to 256" in refused.stderr


async def test_a_failed_job_is_seen_by_a_script(system: System) -> None:
    """``gsi result`` exits with 1 and says why."""
    bad = await system.push('{"prompt":""}')
    answer = await command(system, "result", bad, "--wait")
    assert answer.returncode == 1
    assert 'FAILED  prompt: "" is not allowed' in answer.stderr
