"""The newest jobs of a queue: from its lanes, its jobs set aside, and its results. It scans no keys."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic_core import from_json
from redis.asyncio import Redis

from gsi.algorithm.methods import METHODS
from gsi.errors import InvalidRequestError
from gsi.jobs.job import claim
from gsi.jobs.keys import JOB_FIELD, Key, Keys, Priority
from gsi.jobs.state import JobState
from gsi.limits import JOB_ID_PATTERN, MAX_PAYLOAD_TOKENS

MAX_LISTED = 1000
PAGE = 500  # results in a round trip
TOGETHER = 50  # records, or entries of a lane, in a round trip: they hold payloads, and others want their turn
MAX_PAGES = 200  # the results stream has some 100,000 entries
TIMES = ("submitted_at", "started_at", "finished_at")
FIELDS = ("state", "tenant", *TIMES, "answer", "error", "last_error", "payload", "params", "lane")


Pushed: TypeAlias = Mapping[str, float | None]  # by a job's id, when it was pushed; None: not known


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
        sources: list[AsyncIterator[Pushed]] = []
        if state is None or not state.is_finished:
            sources += [self._set_aside(depth), *(self._lane(lane, depth) for lane in self._keys.lanes)]
        if state is None or state.is_finished:
            sources.append(self._finished(state, depth))
        found: dict[str, JobSummary] = {}
        for source in sources:
            found |= {job.id: job for job in await self._collect(source, wanted, limit)}
        return sorted(found.values(), key=lambda job: job.submitted_at or 0.0, reverse=True)[:limit]

    async def find(self, job_ids: list[str]) -> dict[str, JobSummary]:
        """Return the jobs of these ids that have a record."""
        return {job.id: job for job in await self._read(dict.fromkeys(job_ids))} if job_ids else {}

    async def _collect(self, pages: AsyncIterator[Pushed], wanted: JobFilter, limit: int) -> list[JobSummary]:
        """Return the jobs of a source that are wanted: at least ``limit`` if it has so many."""
        found: list[JobSummary] = []
        async for page in pages:
            found += [job for job in await self._read(page) if wanted.matches(job)]
            if len(found) >= limit:
                break
        return found

    async def _lane(self, lane: Key, depth: int) -> AsyncIterator[Pushed]:
        """Yield the ids of up to ``depth`` jobs of a lane, the newest first, with when each was pushed."""
        last = "+"
        for first in range(0, depth, TOGETHER):
            page = await self._redis.xrevrange(lane, max=last, count=min(TOGETHER, depth - first))
            if page:
                yield {name_of(entry_id, fields): int(entry_id.split(b"-")[0]) / 1000 for entry_id, fields in page}
                last = f"({page[-1][0].decode()}"
            if len(page) < TOGETHER:
                return

    async def _set_aside(self, depth: int) -> AsyncIterator[Pushed]:
        """Yield the ids of jobs that are delayed or parked."""
        ids = await self._redis.zrange(self._keys.delayed, 0, depth - 1)
        for tenant in await self._redis.smembers(self._keys.parked_tenants):
            ids += await self._redis.lrange(self._keys.parked(tenant.decode()), -depth, -1)
        for page in _batched([job_id.decode() for job_id in ids]):
            yield dict.fromkeys(page)

    async def _finished(self, state: JobState | None, depth: int) -> AsyncIterator[Pushed]:
        """Yield the ids of up to ``depth`` jobs that have finished, the last to finish first."""
        last, found = "+", set[str]()
        for _ in range(MAX_PAGES):
            page = await self._redis.xrevrange(self._keys.results, max=last, count=PAGE)
            named = [
                fields[b"id"].decode(errors="replace")
                for _, fields in page
                if state is None or fields[b"state"].decode() == state
            ]
            fresh = [job_id for job_id in dict.fromkeys(named) if job_id not in found][: depth - len(found)]
            found.update(fresh)
            for part in _batched(fresh):
                yield dict.fromkeys(part)
            if len(page) < PAGE or len(found) == depth:
                return
            last = f"({page[-1][0].decode()}"

    async def _read(self, pushed: Pushed) -> list[JobSummary]:
        """Read records. A job without a record was pushed by XADD if it is in a lane, else its lifetime has ended."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in pushed:
                pipeline.hmget(self._keys.record(job_id), FIELDS)
                pipeline.xlen(self._keys.steps(job_id))
            answers = await pipeline.execute()
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


def _batched(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield names in the numbers in which records are read."""
    for first in range(0, len(names), TOGETHER):
        yield names[first : first + TOGETHER]


def name_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> str:
    """Return the id of the job that an entry of a lane stands for."""
    named = fields.get(b"id", b"").decode(errors="replace") or _read_id(fields.get(JOB_FIELD.encode(), b""))
    return named or entry_id.decode()


def _read_id(payload: bytes) -> str | None:
    """Return the id that a payload names, as ``claim`` reads it, which is slow and knows what is too large."""
    if len(payload) > MAX_PAYLOAD_TOKENS:  # a shorter one cannot have too many tokens
        return claim(payload).id
    found = read_payload(payload).get("id")
    return found if isinstance(found, str) and re.fullmatch(JOB_ID_PATTERN, found) else None


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
