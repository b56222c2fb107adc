"""A queue at a glance, look after look: what waits and runs, who works, how fast, and how far each job is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.algorithm.candidates import Outcome
from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.listing import JobList, JobSummary
from gsi.jobs.reader import JobReader, read_step
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState

MAX_RESULTS_READ = 10_000  # of the last minute
GONE_MS = 20_000  # a coordinator asks for entries, or renews its leases, more often


@dataclass(slots=True)
class Progress:
    """What a job has kept so far. ``num_accepted``: of the kept steps, the draft's that passed."""

    num_steps: int = 0
    num_accepted: int = 0
    last_text: str = ""
    last_entry: str = "-"


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
        self._progress: dict[str, Progress] = {}

    async def look(self) -> Board:
        """Return the queue as it is now, with its newest jobs."""
        jobs = await self._list.newest(None, self._num_jobs)
        await self._follow_steps([job for job in jobs if job.num_steps])
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
            await self._count_finished(),
            jobs,
            dict(self._progress),
        )

    async def _follow_steps(self, jobs: Sequence[JobSummary]) -> None:
        """Read what the jobs have kept since the last look; forget jobs that are not shown any more."""
        known = {job.id: self._progress.get(job.id, Progress()) for job in jobs}
        for job in jobs:
            if known[job.id].num_steps > job.num_steps:  # a new job of the same id
                known[job.id] = Progress()
        behind = [job.id for job in jobs if known[job.id].num_steps < job.num_steps]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in behind:
                last = known[job_id].last_entry
                pipeline.xrange(self._keys.steps(job_id), "-" if last == "-" else f"({last}")
            answers = await pipeline.execute() if behind else []
        for job_id, entries in zip(behind, answers, strict=True):
            for entry_id, fields in entries:
                step, progress = read_step(fields[b"step"]), known[job_id]
                progress.num_steps += 1
                progress.num_accepted += step.outcome is Outcome.ACCEPTED
                progress.last_text, progress.last_entry = step.text, entry_id.decode()
        self._progress = known

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

    async def _count_finished(self) -> Counter[JobState]:
        """Count the jobs that finished in the last minute, by state."""
        since = await calls.read_clock(self._redis, key=self._keys.results) - 60_000
        entries = await self._redis.xrange(self._keys.results, min=str(since), count=MAX_RESULTS_READ)
        return Counter(JobState(fields[b"state"].decode()) for _, fields in entries)
