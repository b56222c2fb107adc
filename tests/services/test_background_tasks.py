"""A background task that ends unexpectedly ends its process with its error, and other coordinators get the jobs."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gsi.client.sdk import AsyncClient
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, claim, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import Delivery, JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter
from gsi.local.demo import held_out_problems
from gsi.local.embedded_redis import free_port
from gsi.local.stack import ROLES, Stack, coordinator_environments
from services.coordinator import __main__ as coordinator_main
from services.coordinator.background import BackgroundTaskError, background_tasks
from services.coordinator.leases import LeaseKeeper
from services.coordinator.models import Models, open_models
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.worker import Worker
from tests.system import ModelServices

LEASE_SECONDS = 600.0  # no test waits for a lease to end
TIMEOUT_SECONDS = 20.0


def nobody_there(**settings: Any) -> CoordinatorSettings:
    """Return settings whose services do not exist."""
    address = f"127.0.0.1:{free_port()}"
    return CoordinatorSettings(draft=address, target=address, prm=address, **settings)


# --- One block and its tasks -----------------------------------------------------------------------------------------


async def fail(*_: object) -> None:
    raise ValueError("boom")


async def return_at_once(*_: object) -> None:
    pass


async def lose_a_cancellation(*_: object) -> None:
    raise asyncio.CancelledError


async def wait_beside(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Wait for ever in a block with a task."""
    async with asyncio.timeout(TIMEOUT_SECONDS), background_tasks() as background:
        background.start(name, work)
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("end", "reason"),
    [(fail, "ValueError: boom"), (return_at_once, "returned"), (lose_a_cancellation, "CancelledError")],
)
async def test_a_block_ends_with_the_error_of_a_task_that_ends(end: Callable[[], Awaitable[None]], reason: str) -> None:
    """By name, and not as one of a group; a cancellation that nobody asked for is an error like others."""
    with pytest.raises(BackgroundTaskError, match=f"^keeper: {reason}") as raised:
        await wait_beside("keeper", end)
    assert isinstance(raised.value.__cause__, ValueError) == (end is fail)


async def test_the_tasks_end_with_their_block_and_clean_up_first() -> None:
    """A task that may return does so without harm; the block's own error comes out as it is."""
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append("up")

    async def block(error: Exception | None) -> None:
        async with background_tasks() as background:
            background.start("poll", return_at_once, may_return=True)
            background.start("keeper", work)
            await asyncio.sleep(0)
            if error:
                raise error

    await block(None)
    with pytest.raises(KeyError, match="own"):
        await block(KeyError("own"))
    assert cleaned == ["up", "up"]


# --- Each task of a coordinator --------------------------------------------------------------------------------------


class Holding:
    """Takes jobs and holds their leases, as long as it is let."""

    def __init__(self, writer: JobWriter, leases: LeaseKeeper) -> None:
        self._writer = writer
        self._leases = leases
        self.has_job = asyncio.Event()

    async def run(self, delivery: Delivery) -> None:
        lease = await self._writer.take(str(claim(delivery.payload).id), delivery)
        assert lease is not None
        async with self._leases.hold(lease):
            self.has_job.set()
            await asyncio.Event().wait()


@pytest.mark.parametrize(("end", "reason"), [(fail, "ValueError: boom"), (return_at_once, "returned")])
@pytest.mark.parametrize(
    ("kind", "method", "name"),
    [(LeaseKeeper, "keep", "lease keeper"), (Worker, "_promote", "promoter"), (Worker, "observe", "queue observer")],
)
async def test_a_worker_whose_task_ends_hands_its_jobs_back(
    redis: Redis, queue: str, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, name: str, end: Any, reason: str
) -> None:
    """Its run ends with the task's error, and another coordinator finds the job at its next look."""
    writer, stream = JobWriter(redis, Keys(queue)), JobStream(redis, Keys(queue), "doomed")
    leases = LeaseKeeper(writer, LEASE_SECONDS)
    runner: Any = Holding(writer, leases)

    async def end_during_a_job(_: object) -> None:
        await runner.has_job.wait()
        await end()

    monkeypatch.setattr(kind, method, end_during_a_job)
    await stream.create_group()
    await JobSubmitter(redis, Keys(queue)).submit(Job("mine", parse_payload({"prompt": "2 + 3"})))
    worker = Worker(
        stream, writer, JobReader(redis, Keys(queue)), runner, leases, max_jobs=4, lease_seconds=LEASE_SECONDS
    )
    with pytest.raises(BackgroundTaskError, match=f"^{name}: {reason}"):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await worker.run(asyncio.Event())
    (delivery,) = await JobStream(redis, Keys(queue), "other").take_over(1, int(LEASE_SECONDS * 1000))
    assert claim(delivery.payload).id == "mine"


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_a_worker_survives_a_run_that_fails_and_runs_the_next(
    redis: Redis, queue: str, error: type[BaseException]
) -> None:
    """A job that breaks our code, or a library's stray cancellation, must not end one coordinator after the other."""
    writer, stream = JobWriter(redis, Keys(queue)), JobStream(redis, Keys(queue), "worker")
    leases = LeaseKeeper(writer, LEASE_SECONDS)
    seen, stop = [], asyncio.Event()

    class Breaking:
        async def run(self, delivery: Delivery) -> None:
            seen.append(claim(delivery.payload).id)
            if len(seen) == 2:
                stop.set()
            raise error

    runner: Any = Breaking()
    await stream.create_group()
    for job_id in ("one", "two"):
        await JobSubmitter(redis, Keys(queue)).submit(Job(job_id, parse_payload({"prompt": "2 + 3"})))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reader = JobReader(redis, Keys(queue))
        await Worker(stream, writer, reader, runner, leases, max_jobs=1, lease_seconds=LEASE_SECONDS).run(stop)
    assert seen == ["one", "two"]


@pytest.mark.parametrize(
    ("method", "end", "message"),
    [
        ("_watch", fail, "service watcher: ValueError: boom"),
        ("_watch", return_at_once, "service watcher: returned"),
        ("_poll", fail, "poll of draft: ValueError: boom"),
    ],
)
async def test_the_services_end_with_a_task_that_watches_one(
    monkeypatch: pytest.MonkeyPatch, method: str, end: Any, message: str
) -> None:
    """A dead watcher would show an old state, and a dead poll would let jobs wait for ever."""
    monkeypatch.setattr(Models, method, end)
    with pytest.raises(BackgroundTaskError, match=f"^{message}"):
        await connect_in_vain()


async def connect_in_vain() -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), open_models(nobody_there()) as models:
        await models.connect()


async def test_a_job_that_waits_for_a_poll_that_fails_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handed back, as every job in flight; the fault is not the job's."""
    monkeypatch.setattr(Models, "_poll", fail)
    ends: list[BaseException] = []

    async def wait(models: Models) -> None:
        try:
            await models.wait_until_serving("prm")
        except BaseException as error:
            ends.append(error)
            raise

    async def run_a_job() -> None:
        async with open_models(nobody_there()) as models:
            await wait_beside("run of a job", partial(wait, models))

    with pytest.raises(BackgroundTaskError, match=r"^poll of prm: ValueError: boom"):
        await run_a_job()
    assert [type(error) for error in ends] == [asyncio.CancelledError]


async def test_a_coordinator_ends_when_it_could_not_end_its_readiness(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be sent work until it is gone."""
    monkeypatch.setattr(coordinator_main, "_end_readiness", fail)
    with pytest.raises(BackgroundTaskError, match=r"^end of readiness: ValueError: boom"):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await coordinator_main.coordinate(nobody_there(redis_url=redis_url))


async def test_a_coordinator_ends_with_its_observer_before_its_services_are_there(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a model loads, which may take half an hour."""
    monkeypatch.setattr(Worker, "observe", fail)
    with pytest.raises(BackgroundTaskError, match=r"^queue observer: ValueError: boom"):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await coordinator_main.coordinate(nobody_there(redis_url=redis_url))


# --- A real process --------------------------------------------------------------------------------------------------

DOOMED = """
import asyncio, runpy
from services.coordinator.leases import LeaseKeeper

async def keep(leases):
    while not leases._running:
        await asyncio.sleep(0.01)
    raise ValueError("boom")  # at once: on an idle machine the job is done in half a second

LeaseKeeper.keep = keep
runpy.run_module("services.coordinator", run_name="__main__")
"""


async def start(stack: Stack, queue: str, *command: str) -> asyncio.subprocess.Process:
    """Start a coordinator of the stack on a queue."""
    (own,) = coordinator_environments(stack.redis_url, queue, 1).values()
    services = {f"GSI_COORDINATOR_{role.upper()}": stack.addresses[role] for role in ROLES}
    lease = {"GSI_COORDINATOR_LEASE_SECONDS": str(LEASE_SECONDS)}
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, env={"PYTHONPATH": str(Path.cwd()), **own, **services, **lease}, stderr=-1
    )


@pytest.mark.asyncio(loop_scope="session")
async def test_a_process_whose_lease_keeper_dies_exits_and_another_finishes_its_job(
    model_services: ModelServices, queue: str
) -> None:
    """Non-zero, with the error in its log; the job was handed back, so its lease need not end and no attempt counts."""
    job = {"prompt": held_out_problems(1)[0]["prompt"], "params": {"n": 16, "max_steps": 8, "answer_pattern": None}}
    stack = model_services.stack
    async with AsyncClient(stack.redis_url, queue) as client:
        doomed = await start(stack, queue, "-c", DOOMED)
        job_id = await client.submit(job)
        _, output = await asyncio.wait_for(doomed.communicate(), 60)
        assert doomed.returncode == coordinator_main.EXIT_TASK_ENDED
        events = {event["event"]: event for event in map(json.loads, output.splitlines())}
        last = events["a background task ended; this process must be restarted"]
        assert last["error"] == "lease keeper: ValueError: boom"
        assert "job handed back" in events

        other = await start(stack, queue, "-m", "services.coordinator")
        try:
            record = await client.wait(job_id, 60)
        finally:
            other.terminate()
            await other.communicate()
        assert (record.state, record.fields["attempt"]) == (JobState.SUCCEEDED, "1")
        assert other.returncode == 0
