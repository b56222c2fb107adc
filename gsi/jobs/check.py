"""Look for what breaks a queue's invariants, and mend it: ``gsi queue check``.

The invariants: an unfinished job is in exactly one place, from which a coordinator will be given it (``writer.py``); a
tenant's count is the number of its jobs in flight; what is left of a finished job has a lifetime; a consumer that is
gone has left its group. The scripts keep them. What breaks them is a key that somebody changed by hand, an eviction, a
stream that was trimmed, a consumer that was deleted with its entries, or a fault of an older version.

Each thing is looked at, and mended, by one script, so that a check is safe beside running coordinators.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from gsi.jobs.job import claim
from gsi.jobs.keys import DEFAULT_TENANT, JOB_FIELD, Key, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.scripts import calls
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream

SCAN_COUNT = 500
MAX_TRIES = 20  # for a count that changes while it is checked
IDLE_CONSUMER_SECONDS = 3600.0  # no coordinator has a lease as long as this
STEPS = ":steps"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that breaks an invariant: of what, and what is wrong with it, as words."""

    subject: str
    problem: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem}"


class QueueCheck:
    """Checks one queue; with ``repair``, mends what it finds."""

    def __init__(self, redis: Redis, keys: Keys, *, repair: bool = False, policy: Policy | None = None) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._repair = repair
        self._policy = policy or Policy()

    async def run(self, idle_consumer_seconds: float = IDLE_CONSUMER_SECONDS) -> AsyncIterator[Finding]:
        """Yield what is wrong, as it is found."""
        for job_id, parker in (await self._jobs()).items():
            for problem in await self._check_job(job_id, parker):
                yield Finding(f"job {job_id}", problem)
        async for entry in self._undeliverable_entries():
            yield Finding(f"entry {entry}", "no coordinator will be given it")
        async for tenant in self._wrong_parked_tenants():
            yield Finding(f"tenant {tenant}", "the set of tenants with parked jobs is wrong about it")
        async for tenant, counted, had in self._wrong_counts():
            yield Finding(f"tenant {tenant}", f"it counts {counted} jobs in flight, and has {had}")
        for consumer in await self._idle_consumers(idle_consumer_seconds):
            yield Finding(f"consumer {consumer}", "it holds nothing, and has asked for nothing for long")

    async def _jobs(self) -> dict[str, str]:
        """Return the ids of all jobs that any key of the queue names, each with the tenant that parked it."""
        prefix, parked = self._keys.record(""), self._keys.parked("")
        names = [key.removeprefix(prefix).removesuffix(STEPS) async for key in self._scan(f"{prefix}*")]
        delayed = [job_id.decode() for job_id in await self._redis.zrange(self._keys.delayed, 0, -1)]
        parkers = {
            job_id.decode(): key.removeprefix(parked)
            async for key in self._scan(f"{parked}*")
            for job_id in await self._redis.lrange(key, 0, -1)
        }
        return {job_id: parkers.get(job_id, DEFAULT_TENANT) for job_id in sorted({*names, *delayed, *parkers})}

    async def _check_job(self, job_id: str, parker: str) -> list[str]:
        record = self._keys.record(job_id)
        wrong = None
        while wrong is None:
            found_tenant, found_lane = await self._redis.hmget(record, "tenant", "lane")
            tenant = found_tenant.decode() if found_tenant else parker
            wrong = await calls.check_job(
                self._redis,
                record=record,
                lane=self._keys.lane_of(found_lane),
                steps=self._keys.steps(job_id),
                results=self._keys.results,
                tenants=self._keys.tenants,
                delayed=self._keys.delayed,
                parked=self._keys.parked(tenant),
                parked_tenants=self._keys.parked_tenants,
                config=self._keys.config,
                job_id=job_id,
                tenant=tenant,
                lifetime_ms=self._policy.dead_ms,
                repair=self._repair,
            )
        return wrong

    async def _undeliverable_entries(self) -> AsyncIterator[str]:
        for lane in self._keys.lanes:
            for entry_id, fields in await self._redis.xrange(lane):
                named = fields.get(b"id") or entry_id
                job_id = claim(fields.get(JOB_FIELD.encode(), b"")).id or named.decode(errors="replace")
                is_found = await calls.check_entry(
                    self._redis,
                    record=self._keys.record(job_id),
                    lane=lane,
                    entry=entry_id.decode(),
                    repair=self._repair,
                )
                if is_found:
                    yield f"{entry_id.decode()} of {lane}"

    async def _wrong_parked_tenants(self) -> AsyncIterator[str]:
        """Yield each tenant about whose parked jobs the set of tenants is wrong."""
        prefix = self._keys.parked("")
        noted = [tenant.decode() for tenant in await self._redis.smembers(self._keys.parked_tenants)]
        listed = [key.removeprefix(prefix) async for key in self._scan(f"{prefix}*")]
        for tenant in sorted({*listed, *noted}):
            if await calls.check_parked_tenant(
                self._redis,
                parked=self._keys.parked(tenant),
                parked_tenants=self._keys.parked_tenants,
                tenant=tenant,
                repair=self._repair,
            ):
                yield tenant

    async def _wrong_counts(self) -> AsyncIterator[tuple[str, int, int]]:
        """Yield each tenant whose count is wrong: how many jobs in flight it counts, and how many it has.

        All records are read at once for all tenants, after the counts. A tenant whose count has changed meanwhile is
        looked at again with the next reading.
        """
        unsure: set[str] | None = None  # None: every tenant
        for _ in range(MAX_TRIES):
            counts = {name.decode(): int(n) for name, n in (await self._redis.hgetall(self._keys.tenants)).items()}
            records = await self._records_in_flight()
            tenants, unsure = counts.keys() | records.keys() if unsure is None else unsure, set()
            for tenant in sorted(tenants):
                seen = counts.get(tenant, 0)
                surplus = await calls.check_tenant(
                    self._redis,
                    tenants=self._keys.tenants,
                    records=records.get(tenant, []),
                    tenant=tenant,
                    seen=seen,
                    repair=self._repair,
                )
                if surplus is None:
                    unsure.add(tenant)
                elif surplus:
                    yield tenant, seen, seen - surplus
            if not unsure:
                return

    async def _records_in_flight(self) -> Mapping[str, list[Key]]:
        """Return, by tenant, the records of the unfinished jobs that occupy a place in flight."""
        found = defaultdict(list)
        async for key in self._scan(f"{self._keys.record('')}*"):
            if key.endswith(STEPS):
                continue
            state, tenant, reserved = await self._redis.hmget(key, "state", "tenant", "reserved")
            if state and tenant and reserved and not JobState(state.decode()).is_finished:
                found[tenant.decode()].append(Key(key))
        return found

    async def _idle_consumers(self, idle_seconds: float) -> list[str]:
        stream = JobStream(self._redis, self._keys, "")
        find = stream.remove_idle_consumers if self._repair else stream.idle_consumers
        idle = await find(int(idle_seconds * 1000))
        return sorted({consumer for _, consumer in idle})

    async def _scan(self, pattern: str) -> AsyncIterator[str]:
        """Yield the queue's keys of a pattern. A queue's name has nothing to escape."""
        async for key in self._redis.scan_iter(match=pattern, count=SCAN_COUNT):
            yield key.decode()
