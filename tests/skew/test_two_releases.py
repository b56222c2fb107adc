"""The last release's coordinator beside this one's, in real processes over one queue; and jobs of a release to come.

What a newer release adds is played by payloads and steps with more in them, because that release does not exist yet.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gsi.jobs.keys import DEFAULT_TENANT
from gsi.jobs.payload import PAYLOAD_FORMAT
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.child_process import ChildProcess
from gsi.local.demo import held_out_problems
from gsi.local.stack import ROLES, coordinator_environments, service_environments
from gsi.runtime.installation import SHIPPED_MODELS
from tests.conftest import wait_until
from tests.jobs.sample import step
from tests.skew.last_release_code import ROOT, unpack_last_release
from tests.system import ModelServices, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUE = "two-releases"
LEASE_SECONDS = "1"
NUM_JOBS = 6
ONE_JOB = {"GSI_COORDINATOR_MAX_JOBS": "1"}
PATIENCE_SECONDS = 3
PROBLEMS = [problem["prompt"] for problem in held_out_problems(NUM_JOBS)]
# Texts without sense, many at once: a step takes a second, so that a coordinator can be lost behind one.
LONG = {
    "prompt": PROBLEMS[0],
    "params": {"n": 64, "temperature": 3.0, "acceptance_threshold": -1e6, "seed": 1, "max_steps": 4},
}


@pytest.fixture(scope="module")
def last_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_last_release(tmp_path_factory.mktemp("last-release"))


class Coordinator(ChildProcess):
    """A coordinator of this or the last release, by the folder that has its code."""

    def __init__(self, code: Path, services: ModelServices, queue: str, folder: Path, **settings: str) -> None:
        (environment,) = coordinator_environments(services.stack.redis_url, queue, 1).values()
        environment |= {f"GSI_COORDINATOR_{role.upper()}": services.stack.addresses[role] for role in ROLES}
        environment |= {"PYTHONPATH": str(code), "GSI_COORDINATOR_LEASE_SECONDS": LEASE_SECONDS, **settings}
        command = [sys.executable, "-P", "-m", "services.coordinator"]  # -P: not this folder's code
        super().__init__(code.name, command, environment, folder / f"{code.name}.log", lambda *_: None)


@asynccontextmanager
async def running(*coordinators: Coordinator) -> AsyncIterator[None]:
    """Run coordinators until the block ends."""
    try:
        await asyncio.gather(*(each.start() for each in coordinators))
        yield
    finally:
        await asyncio.gather(*(each.stop() for each in coordinators))


def worker_of(record: JobRecord) -> int:
    """Return the process id of the coordinator that ran a job last."""
    return int(record.fields["worker"].split("-")[-2])


async def test_two_releases_share_a_queue(model_services: ModelServices, last_release: Path, tmp_path: Path) -> None:
    """Every job of either release's coordinator succeeds, and ends once."""
    queue = f"{QUEUE}-share"
    old, new = (Coordinator(code, model_services, queue, tmp_path, **ONE_JOB) for code in (last_release, ROOT))
    async with model_services.coordinators(queue, num_coordinators=0) as system, running(old, new):
        ids = [await system.client.submit({"prompt": each, "params": {"n": 2}}) for each in PROBLEMS]
        records = [await system.finished(job_id) for job_id in ids]
        assert {record.state for record in records} == {JobState.SUCCEEDED}
        assert {worker_of(record) for record in records} == {old.pid, new.pid}
        ends = [fields[b"id"].decode() for _, fields in await system.redis.xrange(system.keys.results)]
        assert sorted(ends) == sorted(ids)


@pytest.mark.parametrize("is_upgrade", [True, False], ids=["upgrade", "rollback"])
async def test_a_job_that_one_release_began_is_ended_by_the_other(
    model_services: ModelServices, last_release: Path, tmp_path: Path, *, is_upgrade: bool
) -> None:
    """A coordinator that is told to stop hands its job back, and the other release continues behind its kept steps."""
    queue = f"{QUEUE}-{'upgrade' if is_upgrade else 'rollback'}"
    first, second = (last_release, ROOT) if is_upgrade else (ROOT, last_release)
    before, after = (Coordinator(code, model_services, queue, tmp_path, **ONE_JOB) for code in (first, second))
    async with model_services.coordinators(queue, num_coordinators=0) as system, running(before):
        job_id = await system.client.submit(LONG)

        async def has_begun() -> bool:
            return bool(await system.redis.exists(system.keys.steps(job_id)))

        await wait_until(has_begun, "a step is kept")
        await before.stop()
        kept = await system.redis.xrange(system.keys.steps(job_id))
        async with running(after):
            record = await system.finished(job_id)
        assert (record.state, worker_of(record)) == (JobState.SUCCEEDED, after.pid)
        assert [each.index for each in record.steps] == list(range(len(record.steps)))
        assert len(record.steps) > len(kept)
        assert (await system.redis.xrange(system.keys.steps(job_id)))[: len(kept)] == kept
        assert record.document.attempt == 1


async def test_this_coordinator_works_with_services_of_the_last_release(
    model_services: ModelServices, last_release: Path, tmp_path: Path
) -> None:
    """``helm upgrade`` replaces both together, and the coordinator starts faster than a model loads."""
    models = {role: SHIPPED_MODELS / ("shallow-target" if role == "target" else role) for role in ROLES}
    environments = service_environments(None, "transformers")
    services = [
        ChildProcess(
            f"last-{role}",
            [sys.executable, "-P", "-m", f"services.{role}"],
            own | {"PYTHONPATH": str(last_release), f"GSI_{role.upper()}_MODEL": str(models[role])},
            tmp_path / f"{role}.log",
            lambda *_: None,
        )
        for role, own in environments.items()
    ]
    addresses = {role: own[f"GSI_{role.upper()}_LISTEN"] for role, own in environments.items()}
    behind = replace(model_services, stack=replace(model_services.stack, addresses=addresses))
    try:
        await asyncio.gather(*(each.start() for each in services))
        async with behind.coordinators(f"{QUEUE}-services") as system:
            record = await system.finished(await system.client.submit({"prompt": PROBLEMS[0], "params": {"n": 2}}))
            assert record.state is JobState.SUCCEEDED
            noted = await system.client.admin.models.read()
            assert noted is not None
            assert {model["checkpoint_fingerprint"] for model in noted.values()} == {""}, "0.1.0 tells none"
            judged = {"prompt": PROBLEMS[0], "params": {"method": "spec-reason"}}
            record = await system.finished(await system.client.submit(judged))
            assert record.state is JobState.FAILED
            assert "asks the target to judge steps, which its service cannot" in record.fields["error"]
    finally:
        await asyncio.gather(*(each.stop() for each in services))


# --- A release to come -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(model_services: ModelServices) -> AsyncIterator[System]:
    settings = {
        "GSI_COORDINATOR_NEWER_JOB_SECONDS": str(PATIENCE_SECONDS),
        "GSI_COORDINATOR_LEASE_SECONDS": LEASE_SECONDS,
        "GSI_COORDINATOR_MAX_ATTEMPTS": "1",
    }
    async with model_services.coordinators(f"{QUEUE}-to-come", settings=settings) as started:
        yield started


async def begin_elsewhere(system: System, job_id: str, written: dict[str, Any]) -> None:
    """Leave a job as a coordinator of another release does that kept a step and put the job off."""
    record = {
        "state": JobState.QUEUED.value,
        "payload": json.dumps({"id": job_id, "prompt": PROBLEMS[0], "params": {"n": 2}}),
        "tenant": DEFAULT_TENANT,
        "lane": system.keys.jobs,
        "submitted_at": (await system.redis.time())[0] * 1000,
        "num_steps": 1,
        "attempt": 0,
        "attempts_held": 0,
    }
    await system.redis.xadd(system.keys.steps(job_id), {"step": json.dumps(written), "token": 0})
    await system.redis.hset(system.keys.record(job_id), mapping=record)
    await system.redis.zadd(system.keys.delayed, {job_id: 0})


async def test_a_payload_of_a_newer_format_waits_and_then_fails_with_a_sentence(system: System) -> None:
    """It is taken a few times, uses no attempt although one is allowed, and does not delay the jobs behind it."""
    newer = await system.push(json.dumps({"v": PAYLOAD_FORMAT + 1, "prompt": "?", "images": []}))
    good = await system.client.submit({"prompt": PROBLEMS[0], "params": {"n": 1}})
    assert (await system.finished(good)).state is JobState.SUCCEEDED
    record = await system.finished(newer)
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert record.error.startswith(
        "no coordinator of a newer release has taken the job; v: 2 is not allowed; allowed: 1"
    )
    assert record.document.finished_at is not None
    assert record.document.submitted_at is not None
    assert record.document.finished_at - record.document.submitted_at >= PATIENCE_SECONDS
    assert 1 <= system.metrics("coordinator-1")["gsi_jobs_put_back_total"] <= PATIENCE_SECONDS + 1


async def test_a_mistyped_name_fails_at_once_where_nobody_newer_is_at_work(system: System) -> None:
    """Whoever pushes by XADD is told what is allowed."""
    before = system.metrics("coordinator-1")["gsi_jobs_put_back_total"]
    record = await system.finished(await system.push('{"prompt":"?","params":{"bta":1}}'))
    assert (record.state, record.error) == (JobState.FAILED, "params.bta: unknown; did you mean beta?")
    assert system.metrics("coordinator-1")["gsi_jobs_put_back_total"] == before


async def test_a_step_with_fields_of_a_newer_release_is_continued(system: System) -> None:
    """At every place where a step may say more. Version 0.1.0 ended such a job DEAD."""
    rejected = {"text": "x", "reward": 0.1, "log_likelihood_draft": -1.0, "added": True}
    written = json.loads(step(0).to_json()) | {"added": {"by": "a newer release"}, "rejected": rejected}
    await begin_elsewhere(system, "more-fields", written)
    record = await system.finished("more-fields")
    assert (record.state, record.error) == (JobState.SUCCEEDED, None)
    assert record.steps[0].text == step(0).text


async def test_a_step_that_cannot_be_read_is_left_to_the_newer_release(system: System) -> None:
    """The job is not DEAD after its one attempt. Nobody newer comes, so it fails with what is to be done."""
    await begin_elsewhere(system, "new-outcome", json.loads(step(0).to_json()) | {"outcome": "reused"})

    async def is_put_back() -> bool:
        return bool(await system.redis.hexists(system.keys.record("new-outcome"), "put_back"))

    await wait_until(is_put_back, "the job is put back")
    await system.redis.hincrby(system.keys.record("new-outcome"), "put_back_at", -PATIENCE_SECONDS * 1000)

    async def has_failed() -> bool:
        return bool(await system.redis.hget(system.keys.record("new-outcome"), "state") == b"FAILED")

    await wait_until(has_failed, "the job is FAILED")
    error = (await system.redis.hget(system.keys.record("new-outcome"), "error")).decode()
    assert error.startswith("no coordinator of a newer release has taken the job; kept step: outcome cannot be read by")
