"""All keys of a small queue at one moment: read them, save them, put them back."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsi.jobs.connection import Redis
from gsi.jobs.keys import GROUP, Key, Keys
from gsi.jobs.state import JobState

IDS = ("job-0", "job-1")
TENANT = "t"

# Reads all keys in one command, as JSON; an empty list and an empty object look the same in Lua.
LOOK = """
local jobs = {}
for i = 8, #KEYS, 2 do
  local record, steps = KEYS[i], KEYS[i + 1]
  jobs[#jobs + 1] = {
    redis.call('HGETALL', record), redis.call('XRANGE', steps, '-', '+'),
    redis.call('PTTL', record), redis.call('PTTL', steps),
  }
end
return cjson.encode({
  entries = redis.call('XRANGE', KEYS[1], '-', '+'),
  pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100),
  delayed = redis.call('ZRANGE', KEYS[2], 0, -1),
  parked = redis.call('LRANGE', KEYS[3], 0, -1),
  parked_tenants = redis.call('SMEMBERS', KEYS[4]),
  in_flight = redis.call('HGETALL', KEYS[5]),
  results = redis.call('XRANGE', KEYS[6], '-', '+'),
  dead = redis.call('XRANGE', KEYS[7], '-', '+'),
  jobs = jobs,
})
"""


@dataclass
class SeenJob:
    """A job's keys."""

    state: JobState | None
    fields: dict[str, str]
    steps: list[dict[str, str]]
    lifetimes: tuple[int, int]  # ms, of record and steps; -1: none, -2: no such key


@dataclass
class Seen:
    """All keys of the queue at one moment."""

    jobs: dict[str, SeenJob]
    entries: set[str]
    pending: set[str]
    delayed: list[str]
    parked: list[str]
    parked_tenants: set[str]
    in_flight: dict[str, int]
    results: Counter[str]
    dead: Counter[str]


@dataclass(frozen=True)
class SavedKey:
    """What a key held, as the server writes it (None: there was no such key), and its lifetime in ms (0: none)."""

    lifetime_ms: int
    written: bytes | None


class QueueSnapshots:
    """Reads, saves and restores the keys of a queue with the jobs ``IDS`` of ``TENANT``, all in one lane."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        # In the order in which LOOK reads them.
        self._of_queue = (
            keys.jobs,
            keys.delayed,
            keys.parked(TENANT),
            keys.parked_tenants,
            keys.tenants,
            keys.results,
            keys.dead,
        )
        self._of_jobs = tuple(key(job_id) for job_id in IDS for key in (keys.record, keys.steps))

    async def look(self) -> Seen:
        names = (*self._of_queue, *self._of_jobs)
        found = json.loads(await self._redis.eval(LOOK, len(names), *names, GROUP))
        return Seen(
            {job_id: _job(*job) for job_id, job in zip(IDS, found["jobs"], strict=True)},
            {entry for entry, _ in found["entries"]},
            {pending[0] for pending in found["pending"]},
            list(found["delayed"]),
            list(found["parked"]),
            set(found["parked_tenants"]),
            {name: int(count) for name, count in _pairs(found["in_flight"]).items()},
            Counter(_pairs(fields)["id"] for _, fields in found["results"]),
            Counter(_pairs(fields)["id"] for _, fields in found["dead"]),
        )

    async def save(self) -> dict[Key, SavedKey]:
        names = self._names()
        async with self._redis.pipeline() as pipeline:
            for name in names:
                pipeline.pttl(name)
                pipeline.dump(name)
            found = iter(await pipeline.execute())
        return {name: SavedKey(_lifetime_to_restore(next(found)), next(found)) for name in names}

    async def restore(self, saved: Mapping[Key, SavedKey]) -> None:
        async with self._redis.pipeline() as pipeline:
            pipeline.delete(*saved)
            for name, key in saved.items():
                if key.written is not None:
                    pipeline.restore(name, key.lifetime_ms, key.written)
            await pipeline.execute()

    async def delete(self) -> None:
        await self._redis.delete(*self._names(), *self._keys.lanes)

    def _names(self) -> list[Key]:
        return [*self._of_queue, *self._of_jobs, self._keys.config]


def _lifetime_to_restore(pttl: int) -> int:
    """Return 0 for a key without a lifetime; else at least 1: PTTL says 0 of the last millisecond."""
    return max(1, pttl) if pttl >= 0 else 0


def _job(fields: Sequence[str], steps: Sequence[Any], *lifetimes: int) -> SeenJob:
    texts = _pairs(fields)
    assert ("state" in texts) == bool(texts), f"a record without a state: {texts}"
    state = JobState(texts["state"]) if texts else None
    return SeenJob(state, texts, [_pairs(each) for _, each in steps], (lifetimes[0], lifetimes[1]))


def _pairs(words: Sequence[str]) -> dict[str, str]:
    pairs = list(words)
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
