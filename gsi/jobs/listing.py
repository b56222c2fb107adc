"""The newest jobs of a queue: from its lanes, its jobs set aside, and its results. It scans no keys."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from redis.asyncio import Redis

from gsi.algorithm.methods import METHODS
from gsi.errors import InvalidRequestError
from gsi.jobs.job import claim
from gsi.jobs.keys import JOB_FIELD, Keys, Priority
from gsi.jobs.state import JobState

MAX_LISTED = 1000
PAGE = 500  # results in a round trip
MAX_PAGES = 200  # the results stream has some 100,000 entries
TIMES = ("submitted_at", "started_at", "finished_at")
FIELDS = ("state", "tenant", *TIMES, "answer", "error", "last_error", "payload", "params", "lane")


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in a list. Times are seconds since 1970 by the server's clock.

    ``method`` None: XADD pushed the job and nobody has taken it, or its payload was too long to be kept. ``error``: of
    the job, or of its last run. ``question``: its prompt or its last message; "" if the payload is not kept.
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
    lane: str = Priority.NORMAL
    question: str = ""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are listed. None: of any. ``text`` is a part of the id or of the question, in any case."""

    state: JobState | None = None
    method: str | None = None
    tenant: str | None = None
    text: str | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether jobs must be read before it is known if they are listed."""
        return any(value is not None for value in (self.method, self.tenant, self.text))

    def matches(self, job: JobSummary) -> bool:
        text = self.text.casefold() if self.text else ""
        return (
            (self.state is None or job.state is self.state)
            and (self.method is None or job.method == self.method)
            and (self.tenant is None or job.tenant == self.tenant)
            and (text in job.id.casefold() or text in job.question.casefold())
        )


class JobList:
    """Lists the jobs of one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys

    async def newest(self, wanted: JobFilter, limit: int) -> list[JobSummary]:
        """Return up to ``limit`` jobs, the last submitted first. Raises InvalidRequestError for a wrong limit.

        A filter by method, tenant or text looks at the newest 1000 jobs of each lane and the 1000 that finished last.
        """
        if not 1 <= limit <= MAX_LISTED:
            raise InvalidRequestError(f"limit: {limit} is not allowed; allowed: a whole number from 1 to {MAX_LISTED}")
        state, depth = wanted.state, MAX_LISTED if wanted.is_narrow else limit
        found: dict[str, JobSummary] = {}
        if state is None or not state.is_finished:
            waiting = await self._unfinished(depth)
            found |= {job.id: job for job in await self._read(waiting)}
        if state is None or state.is_finished:
            ids = [job_id async for job_id in self._finished(state, depth)]
            found |= {job.id: job for job in await self._read(dict.fromkeys(ids))}
        jobs = [job for job in found.values() if wanted.matches(job)]
        return sorted(jobs, key=lambda job: job.submitted_at or 0.0, reverse=True)[:limit]

    async def find(self, job_ids: list[str]) -> dict[str, JobSummary]:
        """Return the jobs of these ids that have a record."""
        return {job.id: job for job in await self._read(dict.fromkeys(job_ids))}

    async def _unfinished(self, limit: int) -> dict[str, float | None]:
        """Return the ids of jobs in the lanes, delayed and parked; with when it was pushed for those in a lane."""
        found: dict[str, float | None] = {}
        for lane in self._keys.lanes:
            for entry_id, fields in await self._redis.xrevrange(lane, count=limit):
                found[name_of(entry_id, fields)] = int(entry_id.split(b"-")[0]) / 1000
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
            self._summarize(job_id, pushed_at, dict(zip(FIELDS, values, strict=True)), num_steps)
            for (job_id, pushed_at), values, num_steps in zip(pushed.items(), answers[::2], answers[1::2], strict=True)
            if values[0] is not None or pushed_at is not None
        ]

    def _summarize(
        self, job_id: str, pushed_at: float | None, fields: dict[str, bytes | None], num_steps: int
    ) -> JobSummary:
        texts = {name: value.decode(errors="replace") for name, value in fields.items() if value}
        times = {name: int(texts[name]) / 1000 if name in texts else None for name in TIMES}
        payload = read_payload(fields["payload"])
        return JobSummary(
            job_id,
            JobState(texts.get("state", JobState.QUEUED)),
            _read_method(fields["params"], payload),
            texts.get("tenant", "-"),
            num_steps,
            submitted_at=times["submitted_at"] or pushed_at,
            started_at=times["started_at"],
            finished_at=times["finished_at"],
            answer=texts.get("answer"),
            error=texts.get("error") or texts.get("last_error"),
            lane=self._keys.lane_of(fields["lane"]).rpartition(":")[2],
            question=_read_question(payload),
        )


def name_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> str:
    """Return the id of the job that an entry of a lane stands for."""
    named = fields.get(b"id", b"").decode(errors="replace") or claim(fields.get(JOB_FIELD.encode(), b"")).id
    return named or entry_id.decode()


def read_payload(payload: bytes | str | None) -> dict[str, Any]:
    """Return what a payload says, checked or not; nothing for one that is not there or is no JSON object."""
    try:
        found = from_json(payload or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read_method(params: bytes | None, payload: Mapping[str, Any]) -> str | None:
    """Return the method: a job that has succeeded has its parameters, any other its payload."""
    if params:
        return str(json.loads(params).get("method"))
    asked = payload.get("params")
    if not payload or not isinstance(asked, dict | None):
        return None
    method = str((asked or {}).get("method", "gsi")).partition(":")[0]
    return method if method in METHODS else None


def _read_question(payload: Mapping[str, Any]) -> str:
    """Return the prompt, or the last message."""
    messages = payload.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    said = last.get("content") if isinstance(last, dict) else payload.get("prompt")
    return said if isinstance(said, str) else ""
