"""The system under fault: a server, three services and coordinators, all processes that this harness started.

The services and the server run for a whole chaos run; each row of the table has a queue and coordinators of its own.
"""

import asyncio
import math
import os
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import RedisError

from gsi.algorithm.candidates import Source
from gsi.algorithm.seeds import derive_seed
from gsi.client.sdk import AsyncClient
from gsi.jobs.check import QueueCheck
from gsi.jobs.connection import Redis, connect
from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.child_process import ChildProcess
from gsi.local.demo import held_out_problems
from gsi.local.forks import ForkedChild, ForkServer
from gsi.local.stack import (
    COORDINATOR_MODULES,
    ROLES,
    SERVICE_MODULES,
    coordinator_environments,
    service_environments,
)
from tests.chaos.outcome import LeftBehind, Outcome
from tests.chaos.redis_server import RedisServer
from tests.chaos.sizes import Size
from tests.system import CHEAP

LEASE_SECONDS = 2.0
NUM_COORDINATORS = 3
NUM_PROBLEMS = 200  # that jobs take in turn; all that is left after the poison
MAX_STEPS = 45  # the default of a job
PARAMS = {"n": 4}
PROBLEMS = held_out_problems(NUM_PROBLEMS)
POISON = held_out_problems(1, skip=NUM_PROBLEMS)[0]["prompt"]
POLL_SECONDS = 0.1
QUIET_SECONDS = 30.0  # until nothing of a row's jobs is left, and coordinators have removed the consumers of lost ones


@dataclass(frozen=True, slots=True)
class Written:
    """What a run wrote: everything of its steps but how long they took, and the answer."""

    state: str
    answer: str
    steps: tuple[Mapping[str, Any], ...]

    @staticmethod
    def of(record: JobRecord) -> "Written":
        steps = tuple({k: v for k, v in step.to_dict().items() if k != "seconds"} for step in record.steps)
        return Written(record.state.value, record.fields.get("answer", ""), steps)


@dataclass(slots=True)
class Kill:
    """A SIGKILL or a SIGSTOP: of which process, when, and when it was ready again (seconds since 1970)."""

    process: str
    at: float
    back_at: float = math.inf


class Queue:
    """One row's queue: submit, look at, wait for its jobs. Every call waits out a server that is away."""

    def __init__(self, name: str, client: AsyncClient, redis: Redis) -> None:
        self.name = name
        self.keys = Keys(name)
        self.redis: Any = redis
        self.client = client

    async def submit(self, seed: int) -> str:
        """Submit the job of a seed: always the same problem, and an id that names both. Raises RedisError."""
        return await self.client.submit({"id": f"{self.name}-{seed}", **job(seed)})

    async def state(self, job_id: str) -> dict[str, str]:
        """Return state, worker, token and num_steps of a job, as far as there are any."""
        names = ("state", "worker", "token", "num_steps")
        values = await self.redis.hmget(self.keys.record(job_id), *names)
        return {name: value.decode() for name, value in zip(names, values, strict=True) if value is not None}

    async def finished(self, ids: Sequence[str]) -> list[JobRecord]:
        """Return jobs once each of them has finished, however long that takes."""
        for job_id in ids:
            await until(partial(self._is_finished, job_id))
        return [await self.client.result(job_id) for job_id in ids]

    async def _is_finished(self, job_id: str) -> bool:
        state = (await self.state(job_id)).get("state")
        return state is not None and JobState(state).is_finished

    async def announced(self) -> Counter[str]:
        """Return how many results each job has in the results stream."""
        return Counter(fields[b"id"].decode() for _, fields in await self.redis.xrange(self.keys.results))

    async def is_empty(self) -> bool:
        """Return whether no job waits, is in flight, or is put off."""
        return not await self.redis.xlen(self.keys.jobs) and not await self.redis.zcard(self.keys.delayed)

    async def unrest(self) -> str:
        """Return what is still to come of this queue; "" if all of it is over."""
        counts = {"entries": sum([await self.redis.xlen(lane) for lane in self.keys.lanes])}
        counts["delayed"] = await self.redis.zcard(self.keys.delayed)
        counts["tenants with parked jobs"] = await self.redis.scard(self.keys.parked_tenants)
        counts["tenants with jobs in flight"] = await self.redis.hlen(self.keys.tenants)
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    async def step_tokens(self, job_id: str) -> list[int]:
        """Return the fencing token that each step was kept with."""
        return [int(fields[b"token"]) for _, fields in await self.redis.xrange(self.keys.steps(job_id))]


class Chaos:
    """The stack. ``folder`` gets the logs, the server's file and the draft's journal."""

    def __init__(self, folder: Path, size: Size) -> None:
        self._size = size
        self.folder = folder
        self.server = RedisServer(folder)
        self.journal = folder / "journal"
        self._spoilt = folder / "spoilt"
        self._forks = {
            kind: ForkServer(modules, folder / f"fork_server-{kind}.log")
            for kind, modules in (("service", SERVICE_MODULES), ("coordinator", COORDINATOR_MODULES))
        }
        self.processes: dict[str, ChildProcess] = {}
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.addresses: dict[str, str] = {}
        self.kills: list[Kill] = []
        self.left_behind = LeftBehind()
        self._metrics: dict[str, str] = {}
        self._references: list[Written] = []

    async def __aenter__(self) -> Self:
        self.server.start()
        self.journal.touch()
        self._spoilt.touch()
        environments = service_environments(None, "transformers")
        self.addresses = {role: environments[role][f"GSI_{role.upper()}_LISTEN"] for role in ROLES}
        for environment in environments.values():
            environment.update(CHEAP)  # a variable of another service is ignored
        environments["draft"] |= {"CHAOS_JOURNAL": str(self.journal), "CHAOS_POISON": POISON}
        environments["draft"] |= {"CHAOS_SPOILT": str(self._spoilt)}
        environments["draft"] |= {"CHAOS_RESTART_SECONDS": str(self._size.restart_seconds)}
        await self._start({role: environments[role] for role in ROLES})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop(list(self.processes))
        for forks in self._forks.values():
            await forks.end()
        self.server.stop()

    @asynccontextmanager
    async def queue(
        self, name: str, settings: Mapping[str, str] | None = None, num_coordinators: int = NUM_COORDINATORS
    ) -> AsyncIterator[Queue]:
        """Start coordinators for a queue of this name and yield it. ``settings`` are theirs, and win over ours."""
        ours = {f"GSI_COORDINATOR_{role.upper()}": address for role, address in self.addresses.items()}
        ours |= {"GSI_COORDINATOR_LEASE_SECONDS": str(LEASE_SECONDS), "GSI_COORDINATOR_NEWER_JOB_SECONDS": "0"}
        ours |= settings or {}
        environments = coordinator_environments(self.server.url, name, num_coordinators)
        started = {f"{own}-{name}": environments[own] | ours for own in environments}
        async with connect(self.server.url) as redis, AsyncClient(self.server.url, name) as client:
            queue = Queue(name, client, redis)
            try:
                await self._start(started)
                yield queue
                await self._see_out(queue)
            finally:
                await self._stop(list(started))
            self.left_behind.consumers |= await list_consumers(redis, queue.keys)

    async def references(self) -> list[Written]:
        """Return what the jobs of seeds 0, 1, … write when nothing disturbs them. They are run once."""
        if not self._references:
            async with self.queue("reference") as queue:
                ids = [await queue.submit(seed) for seed in range(self._size.num_references)]
                self._references = [Written.of(record) for record in await queue.finished(ids)]
        return self._references

    async def rest(self, queue: Queue) -> str:
        """Wait until a queue is quiet; return what is not, if it is not in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await until(partial(_is_at_rest, queue))
        return await queue.unrest()

    async def _see_out(self, queue: Queue) -> None:
        """Wait until a queue is quiet and only live coordinators have consumers; note what is left behind."""
        if unrest := await self.rest(queue):
            self.left_behind.unrest.append(f"{queue.name}: not quiet after {QUIET_SECONDS:.0f} s: {unrest}")
        self.left_behind.orphans += [str(each) async for each in QueueCheck(queue.redis, queue.keys).run()]
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await until(partial(self._has_no_lost_consumer, queue))

    async def _has_no_lost_consumer(self, queue: Queue) -> bool:
        pids = {self.processes[name].pid for name in self.coordinators() if self.is_up(name)}
        return all(coordinator_pid(name) in pids for name in await list_consumers(queue.redis, queue.keys))

    def coordinators(self) -> list[str]:
        return [name for name in self.processes if name.startswith("coordinator")]

    def kill(self, name: str) -> Kill:
        """End a process that we started, as a crash would; ChildProcess starts it again. It must be up."""
        kill = Kill(name, now())
        self.kills.append(kill)
        os.kill(self.processes[name].pid, signal.SIGKILL)
        return kill

    async def stop_for(self, name: str, seconds: float) -> None:
        """Stop a process that we started, and let it continue after that time."""
        pid, stop = self.processes[name].pid, Kill(name, now())
        self.kills.append(stop)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
            stop.back_at = now()

    def is_up(self, name: str) -> bool:
        """Return whether a process is ready: it is not one that was killed or stopped and is not back yet."""
        return all(kill.back_at < math.inf for kill in self.kills if kill.process == name)

    async def all_up(self, names: Iterable[str] = ROLES) -> None:
        """Return once each of these processes is ready."""
        while not all(map(self.is_up, names)):
            await asyncio.sleep(POLL_SECONDS)

    def num_logged(self, process: str, event: str) -> int:
        """Return how often a process has logged an event."""
        return sum(name == process and logged.get("event") == event for name, logged in self.events)

    def metrics(self, process: str) -> dict[str, float]:
        """Return every sample of a process: ``name key=value…`` to its value. Raises OSError if it is not there."""
        with urllib.request.urlopen(f"http://{self._metrics[process]}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in families for sample in family.samples]
        return {
            name + "".join(f" {key}={value}" for key, value in sorted(labels.items())): value
            for name, labels, value, *_ in samples
        }

    def total(self, sample: str) -> float:
        """Return the sum of a sample over the coordinators, those that begin with it included."""
        return sum(
            value
            for process in self.coordinators()
            for name, value in self.metrics(process).items()
            if name.startswith(sample)
        )

    def memory(self, field_name: str = "VmRSS") -> int:
        """Return the largest memory of a coordinator in bytes: VmRSS, now, or VmHWM, ever."""
        return max(_memory(self.processes[name].pid, field_name) for name in self.coordinators())

    def made_steps(self, since: float) -> list[tuple[float, int]]:
        """Return (time, seed) of every step that the draft was asked for since a time."""
        lines = [line.split() for line in self.journal.read_text().splitlines()]
        return [(float(at), int(seed)) for at, seed in lines if float(at) >= since]

    def spoil(self, job_seeds: Iterable[int]) -> None:
        """Let the run of each of these jobs fail in its second step, once: the job is put off."""
        lines = [f"{derive_seed(job_seed, 1, Source.DRAFT)}\n" for job_seed in job_seeds]
        with self._spoilt.open("a") as file:
            file.writelines(lines)

    async def _start(self, environments: Mapping[str, Mapping[str, str]]) -> None:
        for name, environment in environments.items():
            kind = name.partition("-")[0]
            module = "tests.chaos.draft" if kind == "draft" else f"services.{kind}"
            forks = self._forks[
                "coordinator" if kind == "coordinator" else "service"
            ]  # torch is no coordinator's memory
            log = self.folder / f"{name}.log"
            self.processes[name] = ForkedChild(name, module, environment, log, self._report, forks)
            self._metrics[name] = next(value for key, value in environment.items() if key.endswith("_METRICS_LISTEN"))
        await asyncio.gather(*(self.processes[name].start() for name in environments))

    async def _stop(self, names: Sequence[str]) -> None:
        await asyncio.gather(*(self.processes[name].stop() for name in names))
        for name in names:
            del self.processes[name]

    def _report(self, process: str, event: Mapping[str, Any]) -> None:
        self.events.append((process, event))
        if event.get("event") == "ready":
            for kill in self.kills:
                if kill.process == process and kill.back_at == math.inf:
                    kill.back_at = now()


async def check_results(queue: Queue, references: Sequence[Written], outcome: Outcome) -> list[JobRecord]:
    """Wait for the jobs of seeds 0, 1, …; note what was lost, came twice, or differs from an undisturbed run."""
    ids = [f"{queue.name}-{seed}" for seed in range(len(references))]
    records = await queue.finished(ids)
    announced = await queue.announced()
    different = [
        record.id for record, reference in zip(records, references, strict=True) if Written.of(record) != reference
    ]
    outcome.jobs += len(ids)
    outcome.lost += sum(announced[job_id] == 0 for job_id in ids)
    outcome.duplicated += sum(announced[job_id] > 1 for job_id in ids)
    outcome.different_answers += len(different)
    outcome.healthy_dead += sum(record.state is JobState.DEAD for record in records)
    outcome.expect(outcome.lost == 0, f"{outcome.lost} jobs have no result")
    outcome.expect(outcome.duplicated == 0, f"{outcome.duplicated} jobs have more than one result")
    outcome.expect(not different, f"answer or steps differ from the undisturbed run's: {_shown(records, different)}")
    return records


async def _is_at_rest(queue: Queue) -> bool:
    return not await queue.unrest()


async def until(predicate: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something to become true; an answer that Redis does not give counts as false."""
    while True:
        try:
            if await predicate():
                return
        except RedisError:
            pass
        await asyncio.sleep(POLL_SECONDS)


def job(seed: int) -> dict[str, Any]:
    """Return the payload of a seed's job."""
    return {"prompt": PROBLEMS[seed % NUM_PROBLEMS]["prompt"], "params": {**PARAMS, "seed": seed}}


def step_seeds(job_seeds: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return, by the seed that the draft is given for a step, the job's seed and the step's index."""
    return {
        derive_seed(job_seed, index, Source.DRAFT): (job_seed, index)
        for job_seed in job_seeds
        for index in range(MAX_STEPS)
    }


async def list_consumers(redis: Any, keys: Keys) -> set[str]:
    """Return the names of all consumers in the groups of a queue's lanes."""
    lanes = [lane for lane in keys.lanes if await redis.exists(lane)]
    return {consumer["name"].decode() for lane in lanes for consumer in await redis.xinfo_consumers(lane, GROUP)}


def coordinator_pid(worker: str) -> int:
    """Return the id of the process that a record names as its worker: host-pid-random."""
    return int(worker.split("-")[-2])


def _memory(pid: int, field_name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field_name))


def _shown(records: Sequence[JobRecord], ids: Sequence[str]) -> str:
    return "; ".join(f"{r.id} {r.state} {r.fields.get('error', '')}".strip() for r in records if r.id in ids)[:1000]


def now() -> float:
    """Return seconds since 1970, as the draft's journal has them."""
    return time.time()
