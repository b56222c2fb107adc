"""A queue as its operator looks at it: its lanes, who works on which jobs, how fast, and what has died."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.jobs.board import GONE_MS, count_finished
from gsi.jobs.dead_letters import DeadLetter, DeadLetters
from gsi.jobs.keys import GROUP, Key, Keys
from gsi.jobs.listing import name_of
from gsi.jobs.reader import JobReader
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState

MAX_HELD = 500  # jobs that run, of each lane
MAX_LETTERS = 100


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane: its jobs, those of them that no coordinator has taken, and how long the first of these has waited."""

    name: str
    entries: int
    lag: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that a coordinator holds."""

    id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Coordinator:
    """A coordinator that lives, and the jobs that it holds: how many, and the oldest of them."""

    name: str
    num_jobs: int
    jobs: Sequence[HeldJob]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead job: its letter, the tenant of its record and how often it was tried. None: its record has expired."""

    letter: DeadLetter
    tenant: str | None
    attempts: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """A queue at one moment. ``letters``: the newest of the dead."""

    is_paused: bool
    lanes: Sequence[Lane]
    num_delayed: int
    num_parked: int
    num_dead: int
    coordinators: Sequence[Coordinator]
    finished_last_minute: Counter[JobState]
    letters: Sequence[Letter]


class OverviewReader:
    """Looks at a queue. It changes nothing, and creates no group."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._reader, self._dead = JobReader(redis, keys), DeadLetters(redis, keys)

    async def look(self) -> Overview:
        """Return the queue as it is now."""
        config, set_aside = await self._reader.config(), await self._reader.set_aside()
        return Overview(
            config.is_paused,
            [await self._look_at_lane(lane) for lane in self._keys.lanes],
            set_aside.delayed,
            set_aside.parked,
            set_aside.dead,
            await self._read_coordinators(),
            await count_finished(self._redis, self._keys),
            await self._read_letters(),
        )

    async def _look_at_lane(self, lane: Key) -> Lane:
        entries = await self._redis.xlen(lane)
        group = await self._group(lane)
        lag = max(0, entries - (group["pending"] if group else 0))
        first = [] if not lag else await self._redis.xrange(lane, f"({_last_taken(group)}", count=1)
        oldest = 0.0
        if first:
            added_ms = int(first[0][0].split(b"-")[0])
            oldest = max(0.0, (await calls.read_clock(self._redis, key=lane) - added_ms) / 1000)
        return Lane(lane.rpartition(":")[2], entries, lag, oldest)

    async def _group(self, lane: Key) -> dict[str, Any] | None:
        try:
            groups = await self._redis.xinfo_groups(lane)
        except ResponseError:  # nobody has ever pushed or read a job
            return None
        return next((group for group in groups if group["name"] == GROUP.encode()), None)

    async def _read_coordinators(self) -> list[Coordinator]:
        counts: Counter[str] = Counter()
        held: dict[str, list[str]] = {}
        for lane in self._keys.lanes:
            if await self._group(lane) is None:
                continue
            consumers = await self._redis.xinfo_consumers(lane, GROUP)
            counts.update({each["name"].decode(): each["pending"] for each in consumers if each["idle"] < GONE_MS})
            for coordinator, job_id in await self._read_held(lane):
                held.setdefault(coordinator, []).append(job_id)
        tenants = await self._read_fields([job_id for ids in held.values() for job_id in ids], "tenant")
        return [
            Coordinator(
                name,
                number,
                [HeldJob(job_id, text) for job_id in held.get(name, ()) if (text := tenants[job_id][0]) is not None],
            )
            for name, number in sorted(counts.items())
        ]

    async def _read_held(self, lane: Key) -> list[tuple[str, str]]:
        """Return which coordinator holds which job, the oldest first."""
        pending = await self._redis.xpending_range(lane, GROUP, "-", "+", count=MAX_HELD)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for each in pending:
                pipeline.xrange(lane, each["message_id"], each["message_id"])
            found = await pipeline.execute() if pending else []
        return [
            (each["consumer"].decode(), name_of(*entries[0]))
            for each, entries in zip(pending, found, strict=True)
            if entries
        ]

    async def _read_letters(self) -> list[Letter]:
        letters = await self._dead.newest(MAX_LETTERS)
        records = await self._read_fields([letter.job_id for letter in letters], "tenant", "attempt")
        return [
            Letter(letter, tenant, int(attempts) if attempts else None)
            for letter in letters
            for tenant, attempts in [records[letter.job_id]]
        ]

    async def _read_fields(self, job_ids: Sequence[str], *names: str) -> dict[str, list[str | None]]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hmget(self._keys.record(job_id), names)
            found = await pipeline.execute() if job_ids else []
        return {
            job_id: [None if value is None else value.decode(errors="replace") for value in values]
            for job_id, values in zip(job_ids, found, strict=True)
        }


def _last_taken(group: dict[str, Any] | None) -> str:
    return group["last-delivered-id"].decode() if group else "0-0"
