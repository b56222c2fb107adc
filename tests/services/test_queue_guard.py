"""A coordinator takes no jobs of a queue that other models serve, in real processes."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gsi.cli.main import app
from gsi.jobs.state import JobState
from gsi.local.child_process import ChildProcess
from gsi.local.stack import ROLES, coordinator_environments, make_process
from tests.conftest import wait_until
from tests.system import ModelServices, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME = "coordinator-1"
OTHERS = {role: {"model": f"another {role}", "revision": "", "checkpoint_fingerprint": "f0"} for role in ROLES}


class GuardedQueue:
    """A queue with a job, which others were first to serve, and a coordinator that is about to start."""

    def __init__(self, system: System, process: ChildProcess) -> None:
        self.system, self.process = system, process

    async def command(self, *arguments: str) -> Result:
        """Run a command of ``gsi``, in this process."""
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, env=self.system.environment))

    async def is_refused(self) -> bool:
        """Return whether the coordinator has said that it takes no job."""
        return bool(self.system.logged(NAME, "no job is taken: the queue has other models"))

    async def fires_the_alert(self) -> bool:
        """Return whether the series say that the models serve, and are not the queue's, and that Redis answers."""
        found = self.system.metrics(NAME)
        serving = [found[f"gsi_service_serving role={role}"] for role in ROLES]
        return (found["gsi_queue_models_match"], found["gsi_redis_reachable"], serving) == (0, 1, [1, 1, 1])


@asynccontextmanager
async def guarded_queue(
    services: ModelServices, queue: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[GuardedQueue]:
    """Make the queue and its coordinator, which the caller starts; stop it when the block ends."""
    async with services.coordinators(queue, num_coordinators=0) as system:
        await system.redis.hset(system.keys.config, "models", json.dumps(OTHERS))
        await system.client.submit({"id": "mine", "prompt": "2 + 3", "params": {"n": 1}})
        ((name, own),) = coordinator_environments(services.stack.redis_url, queue, 1).items()
        addresses = {f"GSI_COORDINATOR_{role.upper()}": services.stack.addresses[role] for role in ROLES}
        process = make_process(
            name,
            own | addresses | dict(settings or {}),
            services.folder / f"{queue}.log",
            lambda process, event: system.events.append((process, event)),
            services.stack.forks,
        )
        system.stack = replace(system.stack, metrics={name: own["GSI_COORDINATOR_METRICS_LISTEN"]})
        try:
            yield GuardedQueue(system, process)
        finally:
            await process.stop()


async def test_a_queue_of_other_models_is_left_alone_until_an_operator_gives_it_away(
    model_services: ModelServices,
) -> None:
    """Not ready, a metric and a sentence that names models and fix. Then the command, which asks about open jobs."""
    async with guarded_queue(model_services, "guarded") as queue:
        start = asyncio.create_task(queue.process.start())
        await wait_until(queue.is_refused, "the coordinator takes no job")
        (event,) = queue.system.logged(NAME, "no job is taken: the queue has other models")
        assert event["reason"].startswith("queue guarded has other models: draft: another draft (f0), not ")
        assert event["reason"].endswith("gsi queue models --forget, or GSI_COORDINATOR_ADOPT_QUEUE=true")
        await wait_until(queue.fires_the_alert, "the series are those of GsiQueueOfOtherModels")
        assert not start.done(), "it is not ready"
        assert await queue.system.redis.hget(queue.system.keys.record("mine"), "state") == b"QUEUED"

        shown = await queue.command("queue", "models")
        assert shown.stdout.splitlines()[0] == "draft   another draft  f0"
        refused = await queue.command("queue", "models", "--forget")
        assert (refused.exit_code, "1 jobs are unfinished" in refused.stderr) == (1, True)
        assert (await queue.command("queue", "models", "--forget", "--force")).exit_code == 0
        await start
        assert (await queue.system.finished("mine")).state is JobState.SUCCEEDED
        assert queue.system.metrics(NAME)["gsi_queue_models_match"] == 1
        noted: dict[str, Any] = json.loads((await queue.command("queue", "models", "--json")).stdout)
        assert noted.keys() == set(ROLES)
        assert all(len(model["checkpoint_fingerprint"]) > 10 for model in noted.values())


async def test_a_coordinator_that_is_told_to_takes_the_queue(model_services: ModelServices) -> None:
    """The setting is for an upgrade that changes models and coordinators at once."""
    async with guarded_queue(model_services, "adopted", {"GSI_COORDINATOR_ADOPT_QUEUE": "true"}) as queue:
        await queue.process.start()
        assert (await queue.system.finished("mine")).state is JobState.SUCCEEDED
        assert not await queue.is_refused()
