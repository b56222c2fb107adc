"""Model services and a Redis that many test files share, and coordinators that a file has for itself.

To start three model services costs seven seconds of a processor, to start a coordinator less than one. These services
keep nothing between calls and the keys of a queue are its own, so files share services and Redis, and each has a queue.
"""

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gsi.client.sdk import AsyncClient
from gsi.jobs.connection import Redis, connect
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobRecord
from gsi.local.stack import (
    ROLE_NAMES,
    ROLES,
    Stack,
    coordinator_environments,
    local_stack,
    make_process,
)
from gsi.runtime.installation import SHIPPED_MODELS

WAIT_SECONDS = 60.0
# With these a resumed job is compared to the last bit. Without them rounding depends on what shares a forward pass, and
# one of some million tokens is another: ``tests/engines/test_batched_jobs.py``, ``tests/services/test_batching.py``.
EXACT = {f"GSI_{role}_BATCHING": "false" for role in ROLE_NAMES} | {
    f"GSI_{role}_PREFIX_CACHE_BYTES": "0" for role in ROLE_NAMES
}

# The shipped target is deep: it is as slow beside the draft as a large model is. Tests that do not ask what that is
# worth take it as it was before it grew: its answers are as good, and it writes five times as fast.
SHALLOW_TARGET = {"GSI_TARGET_MODEL": str(SHIPPED_MODELS / "shallow-target")}
CHEAP = EXACT | SHALLOW_TARGET

Events = list[tuple[str, Mapping[str, Any]]]


def read_metrics(address: str) -> dict[str, float]:
    """Return every sample at host:port: name and labels to value."""
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
    return {
        name + "".join(f" {key}={value}" for key, value in sorted(labels.items()) if key != "le"): value
        for name, labels, value, *_ in samples
    }


class System:
    """Coordinators on one queue, the services behind them, and what all of these processes have logged."""

    def __init__(self, stack: Stack, queue: str, events: Events, client: AsyncClient, redis: Redis) -> None:
        self.stack = stack
        self.queue = queue
        self.keys = Keys(queue)
        self.events = events
        self.client = client
        self.redis: Any = redis

    async def push(self, payload: str | bytes) -> str:
        """Push a payload as any language can, by a bare XADD; return the entry's id."""
        entry: bytes = await self.redis.xadd(self.keys.jobs, {"job": payload})
        return entry.decode()

    async def finished(self, job_id: str) -> JobRecord:
        return await self.client.wait(job_id, WAIT_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What a command of ``gsi`` needs to find this system."""
        return {"GSI_REDIS_URL": self.stack.redis_url, "GSI_QUEUE": self.queue}

    def logged(self, process: str, event: str) -> list[Mapping[str, Any]]:
        return [logged for name, logged in self.events if name == process and logged["event"] == event]

    def metrics(self, process: str) -> dict[str, float]:
        """Return every sample of a process."""
        return read_metrics(self.stack.metrics[process])


@dataclass(frozen=True, slots=True)
class ModelServices:
    """A stack without coordinators, what it has logged, and a folder for logs."""

    stack: Stack
    events: Events
    folder: Path

    @asynccontextmanager
    async def coordinators(
        self, queue: str, num_coordinators: int = 1, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator[System]:
        """Run coordinators on a queue, which nobody else may use. ``settings`` are their environment variables."""
        events = self.events.copy()
        shared = {f"GSI_COORDINATOR_{role.upper()}": self.stack.addresses[role] for role in ROLES}
        shared |= settings or {}
        environments = coordinator_environments(self.stack.redis_url, queue, num_coordinators)
        started = {
            name: make_process(
                name,
                own | shared,
                self.folder / f"{queue}-{name}.log",
                lambda process, event: events.append((process, event)),
                self.stack.forks,
            )
            for name, own in environments.items()
        }
        stack = replace(
            self.stack,
            processes={**self.stack.processes, **started},
            metrics={
                **self.stack.metrics,
                **{name: own["GSI_COORDINATOR_METRICS_LISTEN"] for name, own in environments.items()},
            },
        )
        try:
            await asyncio.gather(*(process.start() for process in started.values()))
            async with AsyncClient(stack.redis_url, queue) as client, aclosing(connect(stack.redis_url)) as redis:
                yield System(stack, queue, events, client, redis)
        finally:
            await asyncio.gather(*(process.stop() for process in started.values()))


@asynccontextmanager
async def start_model_services(folder: Path, settings: Mapping[str, str] = CHEAP) -> AsyncIterator[ModelServices]:
    """Run the shipped models, with the shallow target, and a Redis. ``settings``: of the services."""
    events: Events = []
    stack = local_stack(folder, lambda name, event: events.append((name, event)), num_coordinators=0, settings=settings)
    async with stack as running:
        yield ModelServices(running, events, folder)
