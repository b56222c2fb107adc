"""What no queue may leave behind once it is quiet: jobs that nothing will run, counts and keys that nothing ends."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsi.jobs.connection import Redis
from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.state import JobState

SCAN_COUNT = 1000
FIELDS = ("state", "entry_id", "lane", "tenant", "reserved")
EXPIRES_NEVER = -1  # what PTTL answers

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Queued:
    """What a queue holds. ``records`` and ``delayed`` are by id, ``in_flight`` and ``parked`` by tenant."""

    records: Mapping[str, Fields]
    entries: Mapping[str, frozenset[str]]  # by lane
    delayed: frozenset[str]
    in_flight: Mapping[str, int]
    parked_tenants: frozenset[str]
    parked: Mapping[str, Sequence[str]]

    def num_places(self, job_id: str, record: Fields) -> int:
        """Return in how many places a waiting job stands."""
        has_entry = record.get("entry_id") in self.entries.get(record.get("lane", ""), ())
        num_parked = list(self.parked.get(record.get("tenant", ""), ())).count(job_id)
        return has_entry + (job_id in self.delayed) + num_parked

    def waits(self, job_id: str) -> bool:
        return self.records.get(job_id, {}).get("state") == JobState.QUEUED


async def find_orphans(redis: Redis, keys: Keys) -> list[str]:
    """Return a sentence for each thing that a queue has left behind. Nothing may happen on the queue meanwhile."""
    queued = await _read(redis, keys)
    return [
        *_misplaced(queued),
        *_miscounted(queued),
        *await _immortal(redis, keys, queued),
        *_standing_for_nothing(queued),
        *_wrong_tenants(queued),
    ]


async def list_consumers(redis: Any, keys: Keys) -> set[str]:
    """Return the names of all consumers in the groups of a queue's lanes."""
    names: set[str] = set()
    for lane in keys.lanes:
        if await redis.exists(lane):
            names |= {consumer["name"].decode() for consumer in await redis.xinfo_consumers(lane, GROUP)}
    return names


def _misplaced(queued: Queued) -> list[str]:
    """Find unfinished jobs that are not in exactly one place."""
    return [
        f"{job_id} is {record['state']} and stands in {queued.num_places(job_id, record)} places; allowed: 1"
        for job_id, record in queued.records.items()
        if not JobState(record["state"]).is_finished and queued.num_places(job_id, record) != 1
    ]


def _miscounted(queued: Queued) -> list[str]:
    """Find tenants whose count is not that of their jobs in flight: those that run or have a place reserved."""
    running = Counter(
        record.get("tenant", "")
        for record in queued.records.values()
        if record["state"] == JobState.RUNNING or "reserved" in record
    )
    return [
        f"tenant {tenant} has {running[tenant]} jobs in flight; counted: {queued.in_flight.get(tenant, 0)}"
        for tenant in sorted(running.keys() | queued.in_flight)
        if running[tenant] != queued.in_flight.get(tenant, 0)
    ]


async def _immortal(redis: Any, keys: Keys, queued: Queued) -> list[str]:
    """Find finished jobs whose record or steps never expire."""
    finished = [job_id for job_id, record in queued.records.items() if JobState(record["state"]).is_finished]
    names = [key for job_id in finished for key in (keys.record(job_id), keys.steps(job_id))]
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.pttl(name)
        lifetimes = await pipeline.execute() if names else []
    ends = zip(names, lifetimes, strict=True)
    return [f"{name} has no lifetime, and its job has finished" for name, left in ends if left == EXPIRES_NEVER]


def _standing_for_nothing(queued: Queued) -> list[str]:
    """Find delayed and parked ids of jobs that do not wait."""
    parked = [(job_id, f"parked for {tenant}") for tenant, ids in queued.parked.items() for job_id in ids]
    places = [(job_id, "delayed") for job_id in queued.delayed] + parked
    return [f"{job_id} is {place}, and no record waits" for job_id, place in places if not queued.waits(job_id)]


def _wrong_tenants(queued: Queued) -> list[str]:
    """Find tenants that are listed as having parked jobs and have none, or the reverse."""
    having = {tenant for tenant, ids in queued.parked.items() if ids}
    return [
        f"tenant {tenant} is {'' if tenant in queued.parked_tenants else 'not '}listed as having parked jobs; "
        f"it has {len(queued.parked.get(tenant, ()))}"
        for tenant in sorted(having ^ queued.parked_tenants)
    ]


async def _read(redis: Any, keys: Keys) -> Queued:
    tenants = await redis.hgetall(keys.tenants)
    parked_prefix = keys.parked("")
    parked = [key async for key in _scan(redis, f"{parked_prefix}*", "list")]
    return Queued(
        await _read_records(redis, keys),
        {lane: frozenset(entry.decode() for entry, _ in await redis.xrange(lane)) for lane in keys.lanes},
        frozenset(job_id.decode() for job_id in await redis.zrange(keys.delayed, 0, -1)),
        {tenant.decode(): int(count) for tenant, count in tenants.items()},
        frozenset(tenant.decode() for tenant in await redis.smembers(keys.parked_tenants)),
        {key.removeprefix(parked_prefix): await _read_list(redis, key) for key in parked},
    )


async def _read_records(redis: Any, keys: Keys) -> dict[str, Fields]:
    prefix = keys.record("")
    found = [key async for key in _scan(redis, f"{prefix}*", "hash")]  # steps are streams
    async with redis.pipeline(transaction=False) as pipeline:
        for key in found:
            pipeline.hmget(key, *FIELDS)
        answers = await pipeline.execute() if found else []
    records: dict[str, Fields] = {}
    for key, values in zip(found, answers, strict=True):
        pairs = zip(FIELDS, values, strict=True)
        records[key.removeprefix(prefix)] = {name: value.decode() for name, value in pairs if value is not None}
    return {job_id: fields for job_id, fields in records.items() if "state" in fields}  # else: it has just expired


async def _read_list(redis: Any, key: str) -> list[str]:
    return [job_id.decode() for job_id in await redis.lrange(key, 0, -1)]


async def _scan(redis: Any, pattern: str, kind: str) -> AsyncIterator[str]:
    seen: set[bytes] = set()  # a scan may return a key twice
    async for key in redis.scan_iter(match=pattern, count=SCAN_COUNT, _type=kind):
        if key not in seen:
            yield key.decode()
        seen.add(key)
