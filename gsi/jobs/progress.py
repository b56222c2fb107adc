"""How far jobs are, read again and again: each step is read once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from redis.asyncio import Redis

from gsi.algorithm.candidates import Outcome
from gsi.jobs.keys import Keys
from gsi.jobs.listing import JobSummary

MAX_KNOWN = 5000
JOBS_TOGETHER = 20  # whose steps are read in a round trip: a step with its candidates may be long


@dataclass(slots=True)
class Progress:
    """What a job has kept so far. ``num_accepted``: of the kept steps, the draft's that passed."""

    num_steps: int = 0
    num_accepted: int = 0
    last_text: str = ""
    last_entry: str = "-"

    @property
    def acceptance(self) -> float | None:
        """Return the share of accepted steps; None before the first step."""
        return self.num_accepted / self.num_steps if self.num_steps else None


class ProgressReader:
    """Reads what jobs have kept since the last look. It forgets those that nobody has looked at for longest."""

    def __init__(self, redis: Redis, keys: Keys, max_known: int = MAX_KNOWN) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._max_known = max_known
        self._known: dict[str, Progress] = {}  # the last looked at last

    async def read(self, jobs: Sequence[JobSummary]) -> dict[str, Progress]:
        """Return how far each job is that has kept a step."""
        shown = {job.id: self._find(job) for job in jobs if job.num_steps}
        self._known = {**{name: each for name, each in self._known.items() if name not in shown}, **shown}
        for job_id in list(self._known)[: -self._max_known]:
            del self._known[job_id]
        behind = [job.id for job in jobs if job.num_steps and shown[job.id].num_steps < job.num_steps]
        for first in range(0, len(behind), JOBS_TOGETHER):
            await self._follow({job_id: shown[job_id] for job_id in behind[first : first + JOBS_TOGETHER]})
        return shown

    def _find(self, job: JobSummary) -> Progress:
        known = self._known.get(job.id, Progress())
        return known if known.num_steps <= job.num_steps else Progress()  # fewer steps: a new job of the same id

    async def _follow(self, behind: Mapping[str, Progress]) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id, progress in behind.items():
                last = progress.last_entry
                pipeline.xrange(self._keys.steps(job_id), "-" if last == "-" else f"({last}")
            answers = await pipeline.execute()
        for progress, entries in zip(behind.values(), answers, strict=True):
            _add(progress, entries)


def _add(progress: Progress, entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
    for entry_id, fields in entries:
        if _order(entry_id.decode()) <= _order(progress.last_entry):  # another look has read it meanwhile
            continue
        step = from_json(fields[b"step"])
        progress.num_steps += 1
        progress.num_accepted += step["outcome"] == Outcome.ACCEPTED
        progress.last_text, progress.last_entry = step["text"], entry_id.decode()


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds or -1), int(number or 0)
