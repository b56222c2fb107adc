"""Row 7: single commands to Redis, and single replies, are lost, late, or done without an answer.

A schedule is a batch of jobs, with all that may happen to a job, under faults that its seed draws. Coordinators and the
client that pushes reach Redis through the proxy; what the row looks at, it reads past it. Each schedule ends with a
quiet queue.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from redis.exceptions import RedisError

from gsi.client.sdk import AsyncClient
from gsi.jobs.connection import connect
from gsi.jobs.errors import JobConflictError
from gsi.jobs.keys import Priority
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from tests.chaos.harness import LEASE_SECONDS, POLL_SECONDS, Chaos, Queue, Written, job
from tests.chaos.outcome import MAX_SHOWN, Outcome
from tests.chaos.redis_proxy import CommandFault, RedisProxy, SeededRule, no_fault
from tests.chaos.sizes import Size

T = TypeVar("T")

TIMEOUT_SECONDS = 2.5  # of a command: longer than a lease, so that a late reply may come to one who has lost it
HOLD_SECONDS = 3.0
DELAY_SECONDS = 0.5
RATES = {
    CommandFault.COMMAND_DELAYED: 0.05,
    CommandFault.COMMAND_DROPPED: 0.04,
    CommandFault.COMMAND_LATE: 0.015,
    CommandFault.REPLY_DELAYED: 0.05,
    CommandFault.REPLY_DROPPED: 0.04,
    CommandFault.REPLY_HELD: 0.015,
}
MAX_PER_TENANT = 3
TENANTS = ("crowded", "crowded", "crowded", "small", "tiny")  # of every five jobs; only the crowded one is at its limit
FIRST_SECONDS = 2.0  # in which a schedule's jobs are pushed
LATER_SECONDS = 3.0  # at most, until the next thing happens to a job
STALL_SECONDS = 90.0  # after which a schedule's jobs will never end
OTHER_SEED = 1_000_000  # of a payload that has the id of another


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the row knows of a job that it has pushed."""

    seed: int
    may_be_cancelled: bool = False
    must_be_cancelled: bool = False


async def commands(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """Every job has one result, the undisturbed run's or CANCELLED, and nothing is left of it but that."""
    outcome, jobs = Outcome(), list[Pushed]()
    references = await chaos.references()
    async with RedisProxy(chaos.server.address, DELAY_SECONDS, HOLD_SECONDS) as proxy:
        url = f"redis://{proxy.address}/0?socket_timeout={TIMEOUT_SECONDS}"
        settings = {
            "GSI_COORDINATOR_REDIS_URL": url,
            "GSI_COORDINATOR_MAX_JOBS_PER_TENANT": str(MAX_PER_TENANT),
            "GSI_COORDINATOR_RETRY_SECONDS": "0.5",
        }
        async with chaos.queue("commands", settings) as queue:
            for number in range(size.schedules):
                schedule = Schedule(chaos, queue, proxy, url, f"{random.random()}")
                first = number * size.schedule_jobs
                jobs += await schedule.run(range(first, first + size.schedule_jobs))
                if problem := await _unfinished(queue, jobs) or await chaos.rest(queue):
                    outcome.problems.append(f"schedule {number} did not come to its end: {problem}")
                    break
                outcome.schedules += 1
            await _check(queue, jobs, references, outcome)
            outcome.kills = outcome.schedules  # a stop in each
            outcome.numbers |= {**_num_faults(proxy), **_num_runs(chaos)}
    return outcome


class Schedule:
    """A batch of jobs under faults that depend on a seed alone; when they strike depends on the machine, too."""

    def __init__(self, chaos: Chaos, queue: Queue, proxy: RedisProxy, url: str, seed: str) -> None:
        self._chaos = chaos
        self._queue = queue
        self._proxy = proxy
        self._url = url
        self._seed = seed

    async def run(self, seeds: Sequence[int]) -> list[Pushed]:
        """Push jobs and do to them what may be done; return them when they have finished, or never will."""
        random = Random(self._seed)
        self._chaos.spoil(seed for seed in seeds if random.random() < 0.2)
        self._proxy.rule = SeededRule(self._seed, RATES)
        try:
            async with AsyncClient(self._url, self._queue.name) as client, asyncio.TaskGroup() as group:
                lives = [group.create_task(self._live(client, seed)) for seed in seeds]
                group.create_task(self._stop_one(random))
            jobs = [life.result() for life in lives]
            await self._until_finished(jobs)
        finally:
            self._proxy.rule = no_fault
        return jobs

    async def _live(self, client: AsyncClient, seed: int) -> Pushed:
        """Push a job, perhaps again, with its own payload or another, and perhaps cancel it."""
        random = Random(f"{self._seed}/{seed}")
        await asyncio.sleep(random.uniform(0, FIRST_SECONDS))
        payload = self._payload(seed, random)
        is_bare = random.random() < 0.3
        await self._push(client, payload, is_bare=is_bare)
        for _ in range(random.choice((0, 0, 1, 2))):
            await asyncio.sleep(random.uniform(0, LATER_SECONDS))
            # which of two bare ones comes first, nobody promises
            again = payload if is_bare or random.random() < 0.5 else _other(payload)
            await self._push(client, again, is_bare=random.random() < 0.7)
        if random.random() < 0.2:
            await asyncio.sleep(random.uniform(0, LATER_SECONDS))
            state = await _insist(lambda: client.cancel(payload["id"], "by the row", may_be_unseen=True))
            was_in_time = state in {JobState.QUEUED, JobState.CANCELLED}  # the latter: the call was sent twice
            return Pushed(seed, not state.is_finished or was_in_time, was_in_time)
        return Pushed(seed)

    def _payload(self, seed: int, random: Random) -> dict[str, Any]:
        said = {"id": _id(self._queue, seed), "tenant": TENANTS[seed % len(TENANTS)]}
        return {**job(seed), **said, "priority": random.choice(list(Priority))}

    async def _push(self, client: AsyncClient, payload: Mapping[str, Any], *, is_bare: bool) -> None:
        if not is_bare:
            with suppress(JobConflictError):  # the other payload came first
                await _insist(lambda: client.submit(payload))
            return
        lane = self._queue.keys.lane(payload["priority"])
        async with connect(self._url) as redis:
            bare: Any = redis
            await _insist(lambda: bare.xadd(lane, {"job": json.dumps(payload)}))

    async def _stop_one(self, random: Random) -> None:
        """Stop a coordinator for longer than its lease."""
        await asyncio.sleep(random.uniform(FIRST_SECONDS / 2, FIRST_SECONDS + LATER_SECONDS))
        await self._chaos.stop_for(random.choice(self._chaos.coordinators()), LEASE_SECONDS + random.uniform(0.5, 1.5))

    async def _until_finished(self, jobs: Sequence[Pushed]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STALL_SECONDS
        while await _unfinished(self._queue, jobs) and loop.time() < deadline:
            await asyncio.sleep(POLL_SECONDS)


async def _check(queue: Queue, jobs: Sequence[Pushed], references: Sequence[Written], outcome: Outcome) -> None:
    """Note what was lost, came twice, or differs from what it must be."""
    announced = await queue.announced()
    records = [await _record(queue, pushed) for pushed in jobs]
    pairs = [(pushed, record) for pushed, record in zip(jobs, records, strict=True) if record is not None]
    wrong = [(pushed, record) for pushed, record in pairs if not _is_right(record, references[pushed.seed], pushed)]
    dead = [record.id for _, record in pairs if record.state is JobState.DEAD]
    counts = [announced[_id(queue, pushed.seed)] for pushed in jobs]
    outcome.jobs = len(jobs)
    outcome.lost, outcome.duplicated = counts.count(0), sum(count > 1 for count in counts)
    outcome.different_answers, outcome.healthy_dead = len(wrong), len(dead)
    outcome.numbers["cancelled"] = sum(record.state is JobState.CANCELLED for _, record in pairs)
    outcome.expect(not outcome.lost, f"{outcome.lost} jobs have no result")
    outcome.expect(not outcome.duplicated, f"{outcome.duplicated} jobs have more than one result")
    outcome.expect(not dead, f"{len(dead)} healthy jobs are dead: {dead[:MAX_SHOWN]}")
    shown = "; ".join(f"{record} as {pushed}" for pushed, record in map(_shown, wrong[:MAX_SHOWN]))
    outcome.expect(not wrong, f"{len(wrong)} jobs are not what they must be: {shown}")


def _is_right(record: JobRecord, reference: Written, pushed: Pushed) -> bool:
    """Return whether a job wrote what it must: the reference, or its beginning if it was cancelled."""
    written = Written.of(record)
    if written.state == JobState.CANCELLED and pushed.may_be_cancelled:
        return written.steps == reference.steps[: len(written.steps)]
    return written == reference and not pushed.must_be_cancelled


def _shown(found: tuple[Pushed, JobRecord]) -> tuple[Pushed, str]:
    pushed, record = found
    return pushed, f"{record.id} {record.state} {record.fields.get('error', '')} {len(record.steps)} steps"


async def _unfinished(queue: Queue, jobs: Sequence[Pushed]) -> str:
    """Return which jobs have not finished, with all that their records say of that; "" if all have."""
    states = {_id(queue, pushed.seed): await queue.state(_id(queue, pushed.seed)) for pushed in jobs}
    waiting = {
        job_id: state
        for job_id, state in states.items()
        if "state" not in state or not JobState(state["state"]).is_finished
    }
    return f"{len(waiting)} jobs have not finished: {dict(list(waiting.items())[:MAX_SHOWN])}" if waiting else ""


async def _record(queue: Queue, pushed: Pushed) -> JobRecord | None:
    job_id = _id(queue, pushed.seed)
    return await queue.client.result(job_id) if await queue.client.exists(job_id) else None


def _other(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return another payload of the same id."""
    return {**payload, "params": {**payload["params"], "seed": payload["params"]["seed"] + OTHER_SEED}}


def _id(queue: Queue, seed: int) -> str:
    return f"{queue.name}-{seed}"


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call until it is answered."""
    while True:
        try:
            return await call()
        except RedisError:
            await asyncio.sleep(POLL_SECONDS)


def _num_faults(proxy: RedisProxy) -> dict[str, float]:
    counts = Counter[str]()
    for (_, fault), count in proxy.met.items():
        counts[f"commands_{fault.replace(' ', '_')}"] += count
    return dict(counts)


def _num_runs(chaos: Chaos) -> dict[str, float]:
    samples = ("gsi_retries_total", "gsi_leases_lost_total", "gsi_redeliveries_total")
    return {name.removeprefix("gsi_").removesuffix("_total"): chaos.total(name) for name in samples}
