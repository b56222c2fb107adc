"""The newest jobs of a queue: from its lanes, its jobs set aside, and its results. It scans no keys."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from gsi.errors import InvalidRequestError
from gsi.jobs.job import claim
from gsi.jobs.keys import JOB_FIELD, Keys
from gsi.jobs.state import JobState

MAX_LISTED = 1000
PAGE = 500  # results in a round trip
MAX_PAGES = 200  # the results stream has some 100,000 entries
TIMES = ("submitted_at", "started_at", "finished_at")
FIELDS = ("state", "tenant", *TIMES, "answer", "error", "last_error", "payload", "params")


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in a list. Times are seconds since 1970 by the server's clock.

    ``method`` None: the job ended without an answer, or is not taken yet. ``error``: of the job, or of its last run.
    """

    id: str
    state: JobState
    method: str | None
    tenant: str
    num_steps: int
    submitted_at: float | None
    started_at: float | None
    finished_at: float | None
    answer: str | None
    error: str | None


class JobList:
    """Lists the jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys

    async def newest(self, state: JobState | None, limit: int) -> list[JobSummary]:
        """Return up to ``limit`` jobs, the last submitted first. Raises InvalidRequestError for a wrong limit."""
        if not 1 <= limit <= MAX_LISTED:
            raise InvalidRequestError(f"limit: {limit} is not allowed; allowed: a whole number from 1 to {MAX_LISTED}")
        found: dict[str, JobSummary] = {}
        if state is None or not state.is_finished:
            waiting = await self._unfinished(limit)
            found |= {job.id: job for job in await self._read(waiting)}
        if state is None or state.is_finished:
            ids = [job_id async for job_id in self._finished(state, limit)]
            found |= {job.id: job for job in await self._read(dict.fromkeys(ids))}
        jobs = [job for job in found.values() if state is None or job.state is state]
        return sorted(jobs, key=lambda job: job.submitted_at or 0.0, reverse=True)[:limit]

    async def _unfinished(self, limit: int) -> dict[str, float | None]:
        """Return the ids of jobs in the lanes, delayed and parked; with when it was pushed for those in a lane."""
        found: dict[str, float | None] = {}
        for lane in self._keys.lanes:
            for entry_id, fields in await self._redis.xrevrange(lane, count=limit):
                named = fields.get(b"id", b"").decode(errors="replace") or claim(fields.get(JOB_FIELD.encode(), b"")).id
                found[named or entry_id.decode()] = int(entry_id.split(b"-")[0]) / 1000
        set_aside = await self._redis.zrange(self._keys.delayed, 0, limit - 1)
        for tenant in await self._redis.smembers(self._keys.parked_tenants):
            set_aside += await self._redis.lrange(self._keys.parked(tenant.decode()), -limit, -1)
        return {**dict.fromkeys(job_id.decode() for job_id in set_aside), **found}

    async def _finished(self, state: JobState | None, limit: int) -> AsyncIterator[str]:
        """Yield the ids of up to ``limit`` jobs that have finished, the last to finish first."""
        last, found = "+", set[str]()
        for _ in range(MAX_PAGES):
            page = await self._redis.xrevrange(self._keys.results, max=last, count=PAGE)
            for _, fields in page:
                job_id = fields[b"id"].decode(errors="replace")
                if (state is None or fields[b"state"].decode() == state) and job_id not in found:
                    found.add(job_id)
                    yield job_id
                    if len(found) == limit:
                        return
            if len(page) < PAGE:
                return
            last = f"({page[-1][0].decode()}"

    async def _read(self, pushed: dict[str, float | None]) -> list[JobSummary]:
        """Read records. A job without a record was pushed by XADD if it is in a lane, else its lifetime has ended."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in pushed:
                pipeline.hmget(self._keys.record(job_id), FIELDS)
                pipeline.xlen(self._keys.steps(job_id))
            answers = await pipeline.execute() if pushed else []
        return [
            _summarize(job_id, pushed_at, dict(zip(FIELDS, values, strict=True)), num_steps)
            for (job_id, pushed_at), values, num_steps in zip(pushed.items(), answers[::2], answers[1::2], strict=True)
            if values[0] is not None or pushed_at is not None
        ]


def _summarize(job_id: str, pushed_at: float | None, fields: dict[str, bytes | None], num_steps: int) -> JobSummary:
    texts = {name: value.decode(errors="replace") for name, value in fields.items() if value}
    times = {name: int(texts[name]) / 1000 if name in texts else None for name in TIMES}
    return JobSummary(
        job_id,
        JobState(texts.get("state", JobState.QUEUED)),
        _read_method(fields),
        texts.get("tenant", "-"),
        num_steps,
        submitted_at=times["submitted_at"] or pushed_at,
        started_at=times["started_at"],
        finished_at=times["finished_at"],
        answer=texts.get("answer"),
        error=texts.get("error") or texts.get("last_error"),
    )


def _read_method(fields: dict[str, bytes | None]) -> str | None:
    """Return the method: a job that waits or runs has its payload, one that has succeeded its parameters."""
    if fields["params"]:
        return str(json.loads(fields["params"]).get("method"))
    payload = claim(fields["payload"] or b"").payload
    return payload.params.method if payload else None
