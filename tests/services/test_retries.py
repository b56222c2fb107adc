"""Jobs that are cancelled, expire, fail repeatedly, or are forgotten, in real processes.

One coordinator serves all tests. Between it and the PRM stands a service of ours that passes everything on, and
fails for one prompt as long as it is told to: the job that nobody can finish.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner, Result

from gsi.cli.main import app
from gsi.errors import InvalidRequestError
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from gsi.local.embedded_redis import free_port
from gsi.v1 import candidates_pb2, prm_pb2, prm_pb2_grpc
from tests.conftest import wait_until
from tests.services.test_system import written
from tests.system import ModelServices, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEYS = Keys("retries")
MAX_JOBS = 2
MAX_ATTEMPTS = 3
POISON, *GOOD = [problem["prompt"] for problem in held_out_problems(5)]
PARAMS = {"n": 4, "seed": 1}
# Texts without sense, many at once: the engines work on each step for seconds. With this seed there are eight steps;
# with others the first may be the last.
LONG = {"prompt": GOOD[0], "params": {"n": 128, "temperature": 3.0, "acceptance_threshold": -1e6, "seed": 1}}


class PoisonedPrm(prm_pb2_grpc.PrmServiceServicer, health_pb2_grpc.HealthServicer):
    """Passes calls on to the real PRM, but for the poison's second step while ``code`` is not OK."""

    def __init__(self, upstream: grpc.aio.Channel) -> None:
        self.code = grpc.StatusCode.OK
        self._prm: Any = prm_pb2_grpc.PrmServiceStub(upstream)
        self._health: Any = health_pb2_grpc.HealthStub(upstream)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        return await self._health.Check(request)

    async def GetModelInfo(self, request: candidates_pb2.GetModelInfoRequest, context: Any) -> Any:
        return await self._prm.GetModelInfo(request)

    async def Score(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        first = await anext(request_iterator)
        is_poison = first.header.messages[-1].content == POISON and len(first.header.steps) == 1
        if is_poison and self.code is not grpc.StatusCode.OK:
            async for _ in request_iterator:  # a caller that is still writing may be told of another code
                pass
            await context.abort(self.code, "the poison is at work")

        async def requests() -> AsyncIterator[prm_pb2.PrmScoreRequest]:
            yield first
            async for request in request_iterator:
                yield request

        async for answer in self._prm.Score(requests()):
            yield answer


class Poisonable(System):
    """The stack, and the service that stands before its PRM."""

    prm: PoisonedPrm

    async def command(self, *arguments: str) -> Result:
        """Run a command of ``gsi``, in this process: each start of Python would take seconds."""
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, env=self.environment))

    async def running(self, *job_ids: str) -> None:
        """Wait until all these jobs run."""

        async def all_run() -> bool:
            return {await self.redis.hget(KEYS.record(job_id), "state") for job_id in job_ids} == {b"RUNNING"}

        await wait_until(all_run, "the jobs run")

    def engine_seconds(self) -> float:
        """Return the processor time that draft and target have used so far."""
        return sum(self.metrics(role)["process_cpu_seconds_total"] for role in ("draft", "target"))

    async def nothing_is_left(self) -> bool:
        """Return whether no entry of the jobs stream is left."""
        return not await self.redis.xlen(KEYS.jobs)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(model_services: ModelServices) -> AsyncIterator[Poisonable]:
    ours = f"127.0.0.1:{free_port()}"
    settings = {
        "GSI_COORDINATOR_PRM": ours,
        "GSI_COORDINATOR_MAX_JOBS": str(MAX_JOBS),
        "GSI_COORDINATOR_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
        "GSI_COORDINATOR_RETRY_SECONDS": "0.1",
        "GSI_COORDINATOR_LEASE_SECONDS": "2",
    }
    server = grpc.aio.server()
    async with grpc.aio.insecure_channel(model_services.stack.addresses["prm"]) as upstream:
        prm = PoisonedPrm(upstream)
        prm_pb2_grpc.add_PrmServiceServicer_to_server(prm, server)
        health_pb2_grpc.add_HealthServicer_to_server(prm, server)
        server.add_insecure_port(ours)
        await server.start()
        async with model_services.coordinators(KEYS.queue, settings=settings) as running:
            made = Poisonable(running.stack, running.queue, running.events, running.client, running.redis)
            made.prm = prm
            yield made
        await server.stop(None)


# --- Cancelling ------------------------------------------------------------------------------------------------------


async def test_cancelled_jobs_stop_at_once_wherever_they_are(system: Poisonable) -> None:
    """In the queue: never run. Running: the engines stop. Each with its reason; the queue goes on."""
    running = [await system.client.submit(LONG) for _ in range(MAX_JOBS)]
    queued = await system.client.submit(LONG)
    await system.running(*running)
    assert await system.client.cancel(queued, "not needed any more") is JobState.QUEUED
    record = await system.client.result(queued)
    assert (record.state, record.fields["error"]) == (JobState.CANCELLED, "not needed any more")
    idle_until = system.engine_seconds()

    async def engines_work() -> bool:
        return system.engine_seconds() > idle_until + 0.5

    await wait_until(engines_work, "the engines work on these jobs")
    by_command = await system.command("cancel", running[0], "--reason", "too dear")
    assert (by_command.exit_code, "asked to stop" in by_command.stderr) == (0, True)
    assert await system.client.cancel(running[1], "too dear") is JobState.RUNNING
    records = [await system.finished(job_id) for job_id in running]
    assert [(record.state, record.fields["error"]) for record in records] == [(JobState.CANCELLED, "too dear")] * 2
    await asyncio.sleep(0.5)
    stopped_at = system.engine_seconds()
    await asyncio.sleep(1)
    assert system.engine_seconds() < stopped_at + 0.2
    assert "attempt" not in (await system.client.result(queued)).fields
    await wait_until(system.nothing_is_left, "the entry of the job that never ran is freed")


async def test_a_running_job_is_cancelled_within_two_seconds(system: Poisonable) -> None:
    """By the server's clock, from the request to the end."""
    job_id = await system.client.submit(LONG)
    await system.running(job_id)
    seconds, microseconds = await system.redis.time()
    await system.client.cancel(job_id, "too dear")
    finished_at = (await system.finished(job_id)).to_dict()["finished_at"]
    assert 0 <= finished_at - (seconds + microseconds / 1e6) + 0.001 < 2


async def test_cancelling_what_cannot_be_cancelled_says_why(system: Poisonable) -> None:
    """A job that has finished stays as it is; a wrong id is named."""
    job_id = await system.client.submit({"prompt": GOOD[0], "params": PARAMS})
    assert (await system.finished(job_id)).state is JobState.SUCCEEDED
    late = await system.command("cancel", job_id)
    assert (late.exit_code, late.stderr.split()) == (1, f"job {job_id} had finished already: SUCCEEDED".split())
    assert (await system.client.result(job_id)).state is JobState.SUCCEEDED
    unknown = await system.command("cancel", "nobody")
    assert (unknown.exit_code, "id: no job nobody in this queue" in unknown.stderr) == (2, True)


# --- Time ------------------------------------------------------------------------------------------------------------


async def test_a_job_expires_at_its_deadline_whether_it_runs_or_waits(system: Poisonable) -> None:
    """One that waits is found expired when it is taken, and asks no model for anything."""
    running = [await system.client.submit({**LONG, "deadline_seconds": 2}) for _ in range(MAX_JOBS)]
    waiting = await system.client.submit({**LONG, "deadline_seconds": 0.5})
    for job_id, deadline in ((running[0], "2"), (running[1], "2"), (waiting, "0.5")):
        record = await system.finished(job_id)
        assert record.state is JobState.EXPIRED
        assert record.fields["error"] == f"deadline_seconds: {deadline} have passed"
    ran = (await system.client.result(running[0])).to_dict()
    assert 1.99 <= ran["finished_at"] - ran["submitted_at"] < 3
    waited = (await system.client.result(waiting)).to_dict()
    assert waited["started_at"] - waited["submitted_at"] > 0.49
    assert waited["finished_at"] - waited["started_at"] < 0.5
    assert waited["steps"] == []


async def test_a_result_is_gone_after_its_time(system: Poisonable) -> None:
    """With its steps: Redis does not fill up with what nobody reads any more."""
    job_id = await system.client.submit({"prompt": GOOD[0], "params": PARAMS, "result_ttl_seconds": 1})
    assert (await system.finished(job_id)).state is JobState.SUCCEEDED

    async def is_gone() -> bool:
        return not await system.redis.exists(KEYS.record(job_id), KEYS.steps(job_id))

    await wait_until(is_gone, "record and steps have expired")
    with pytest.raises(InvalidRequestError, match=f"id: no job {job_id}"):
        await system.client.result(job_id)


# --- Dead letters ----------------------------------------------------------------------------------------------------


async def answered(system: Poisonable, prompt: str) -> JobRecord:
    record = await system.finished(await system.client.submit({"prompt": prompt, "params": PARAMS}))
    assert record.state is JobState.SUCCEEDED
    return record


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INTERNAL, "internal error; the coordinator's log has it"),
        (
            grpc.StatusCode.UNAVAILABLE,
            "a service was lost 4 times during one step (prm: UNAVAILABLE: the poison is at work)",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_a_job_that_fails_each_time_is_dead_and_others_are_unharmed(
    system: Poisonable, code: grpc.StatusCode, error: str
) -> None:
    """After its last attempt, with its last error and its kept step. Retried once the cause is gone, it succeeds."""
    undisturbed = written(await answered(system, POISON))
    before = system.metrics("coordinator-1")
    system.prm.code = code
    try:
        poison = await system.client.submit({"prompt": POISON, "params": PARAMS})
        good = [await system.client.submit({"prompt": prompt, "params": PARAMS}) for prompt in GOOD]
        assert [(await system.finished(job_id)).state for job_id in good] == [JobState.SUCCEEDED] * len(GOOD)
        dead = await system.finished(poison)
    finally:
        system.prm.code = grpc.StatusCode.OK
    assert (dead.state, dead.fields["attempt"]) == (JobState.DEAD, str(MAX_ATTEMPTS))
    assert dead.fields["error"] == f"tried {MAX_ATTEMPTS} times: {error}"
    assert written(dead) == undisturbed[:1]
    counted = system.metrics("coordinator-1")
    assert counted["gsi_retries_total"] - before["gsi_retries_total"] == MAX_ATTEMPTS - 1
    assert counted["gsi_dead_letters_total"] - before["gsi_dead_letters_total"] == 1

    listed = json.loads((await system.command("dead", "list", "--json")).stdout)
    assert [(letter["id"], letter["error"]) for letter in listed] == [(poison, error)]
    shown = json.loads((await system.command("dead", "show", poison, "--json")).stdout)
    assert (shown["last_error"], json.loads(shown["payload"])["prompt"], len(shown["steps"])) == (error, POISON, 1)
    retried = await system.command("dead", "retry", poison)
    assert (retried.exit_code, retried.stderr.strip()) == (0, "1 pushed again")
    record = await system.finished(poison)
    assert (record.state, record.fields["attempt"]) == (JobState.SUCCEEDED, "1")
    assert written(record) == undisturbed
    assert await system.nothing_is_left()


async def test_commands_for_dead_jobs_say_what_they_cannot_do(system: Poisonable) -> None:
    """An id that does not exist, a job that is not dead, an answer that is missing: a sentence and exit code 2."""
    alive = (await answered(system, GOOD[0])).id
    for arguments, sentence in (
        (("retry", "nobody"), "id: no job nobody in this queue"),
        (("show", alive), f"id: job {alive} is SUCCEEDED; allowed: a job that is DEAD"),
        (("retry",), "allowed: either an ID or --all"),
        (("purge",), "allowed: either --before TIME or --all"),
    ):
        refused = await system.command("dead", *arguments)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert sentence in refused.stderr
    assert "no dead jobs" in (await system.command("dead", "list")).stderr
    assert "0 deleted" in (await system.command("dead", "purge", "--before", "2020-01-01")).stderr
