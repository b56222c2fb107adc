"""How many jobs each tenant has in a queue, and where they are: read, never changed."""

from collections import Counter, defaultdict
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from gsi.jobs.job import claim
from gsi.jobs.keys import GROUP, JOB_FIELD, Key, Keys

WAITING, IN_FLIGHT, PARKED = PLACES = ("waiting", "in_flight", "parked")
MAX_WAITING = 500  # entries of a lane: a payload must be read to know its tenant
PAGE = 50
MAX_BYTES = 4 * 2**20  # of a lane's payloads


class TenantJobs:
    """Counts the jobs of one queue by tenant."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys

    async def count(self) -> dict[str, Counter[str]] | None:
        """Return the number of jobs by tenant and place; a tenant without jobs is left out.

        Of each lane it looks at the ``MAX_WAITING`` jobs that have waited longest, or fewer if they are long.
        None: this user may not read the tenants, since its rights are those of an older release.
        """
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        try:
            in_flight = await self._redis.hgetall(self._keys.tenants)
        except NoPermissionError:
            return None
        for tenant, number in in_flight.items():
            counts[tenant.decode()][IN_FLIGHT] = int(number)
        for tenant in await self._redis.smembers(self._keys.parked_tenants):
            counts[tenant.decode()][PARKED] = await self._redis.llen(self._keys.parked(tenant.decode()))
        for lane in self._keys.lanes:
            for tenant, number in (await self._count_waiting(lane)).items():
                counts[tenant][WAITING] += number
        return {tenant: found for tenant, found in counts.items() if found.total() > 0}

    async def _count_waiting(self, lane: Key) -> Counter[str]:
        found: Counter[str] = Counter()
        last, num_bytes = await self._last_taken(lane), 0
        while found.total() < MAX_WAITING and num_bytes < MAX_BYTES:
            entries = await self._redis.xrange(lane, min=f"({last}", count=PAGE)
            for _, fields in entries:
                payload = fields.get(JOB_FIELD.encode(), b"")
                found[claim(payload).tenant] += 1
                num_bytes += len(payload)
            if len(entries) < PAGE:
                break
            last = entries[-1][0].decode()
        return found

    async def _last_taken(self, lane: Key) -> str:
        try:
            groups = await self._redis.xinfo_groups(lane)
        except ResponseError:  # nobody has ever pushed or read a job
            return "0-0"
        group = next((each for each in groups if each["name"] == GROUP.encode()), None)
        return group["last-delivered-id"].decode() if group else "0-0"
