"""A queue at a glance, look after look: what waits and runs, who works, how fast, and how far each job is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.listing import JobFilter, JobList, JobSummary
from gsi.jobs.progress import Progress, ProgressReader
from gsi.jobs.reader import JobReader
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState

MAX_RESULTS_READ = 10_000  # of the last minute
GONE_MS = 20_000  # a coordinator asks for entries, or renews its leases, more often


@dataclass(frozen=True, slots=True)
class Board:
    """A queue at one moment. ``coordinators``: by name, how many jobs each holds."""

    is_paused: bool
    num_waiting: int
    num_running: int
    num_delayed: int
    num_parked: int
    num_dead: int
    coordinators: dict[str, int]
    finished_last_minute: Counter[JobState]
    jobs: Sequence[JobSummary]
    progress: dict[str, Progress] = field(default_factory=dict)  # by id, of the jobs above that run or have run

    @property
    def acceptance(self) -> float | None:
        """Return the share of accepted steps of the jobs that are shown; None before the first step."""
        num_steps = sum(each.num_steps for each in self.progress.values())
        return sum(each.num_accepted for each in self.progress.values()) / num_steps if num_steps else None


class BoardReader:
    """Looks at a queue again and again. It reads each step once, so a look costs what has changed."""

    def __init__(self, redis: Redis, keys: Keys, num_jobs: int) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._num_jobs = num_jobs
        self._list, self._reader = JobList(redis, keys), JobReader(redis, keys)
        self._progress = ProgressReader(redis, keys)

    async def look(self) -> Board:
        """Return the queue as it is now, with its newest jobs."""
        jobs = await self._list.newest(JobFilter(), self._num_jobs)
        progress = await self._progress.read(jobs)
        held = sum([await self._redis.xlen(lane) for lane in self._keys.lanes])
        num_running, coordinators = await self._read_coordinators()
        set_aside, config = await self._reader.set_aside(), await self._reader.config()
        return Board(
            config.is_paused,
            max(0, held - num_running),
            num_running,
            set_aside.delayed,
            set_aside.parked,
            set_aside.dead,
            coordinators,
            await count_finished(self._redis, self._keys),
            jobs,
            progress,
        )

    async def _read_coordinators(self) -> tuple[int, dict[str, int]]:
        """Return how many entries are taken, and by name how many jobs each coordinator that lives holds."""
        num_taken, held = 0, Counter[str]()
        for lane in self._keys.lanes:
            try:
                consumers = await self._redis.xinfo_consumers(lane, GROUP)
            except ResponseError:  # nobody has ever read the queue
                continue
            num_taken += sum(each["pending"] for each in consumers)
            held.update({each["name"].decode(): each["pending"] for each in consumers if each["idle"] < GONE_MS})
        return num_taken, dict(sorted(held.items()))


async def count_finished(redis: Any, keys: Keys) -> Counter[JobState]:
    """Count the jobs of a queue that finished in the last minute, by state."""
    since = await calls.read_clock(redis, key=keys.results) - 60_000
    entries = await redis.xrange(keys.results, min=str(since), count=MAX_RESULTS_READ)
    return Counter(JobState(fields[b"state"].decode()) for _, fields in entries)
