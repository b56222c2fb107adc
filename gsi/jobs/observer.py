"""A queue as one sees it who takes no part in it: an exporter reads, creates nothing and changes nothing."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.reader import JobReader, QueueConfig, SetAside
from gsi.jobs.stream import Ages, Backlog, JobStream

GONE_MS = 20_000  # a coordinator with the default lease asks for entries, or renews its leases, more often


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of the Redis server, in bytes. ``most`` 0: it has no limit of its own."""

    used: int
    most: int


@dataclass(frozen=True, slots=True)
class Sight:
    """A queue at one moment. ``num_coordinators`` have asked for entries, or renewed a lease, within 20 seconds.

    ``memory`` None: this user may not ask the server for it.
    """

    backlog: Backlog
    ages: Ages
    set_aside: SetAside
    config: QueueConfig
    num_coordinators: int
    memory: Memory | None


class QueueObserver:
    """Looks at one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._stream, self._reader = JobStream(redis, keys, consumer="", may_create=False), JobReader(redis, keys)

    async def look(self) -> Sight:
        """Return the queue as it is now. Raises RedisError if Redis does not answer."""
        return Sight(
            await self._stream.backlog(),
            await self._stream.ages(),
            await self._reader.set_aside(),
            await self._reader.config(),
            await self._count_coordinators(),
            await self._read_memory(),
        )

    async def _read_memory(self) -> Memory | None:
        try:
            found = await self._redis.info("memory")
        except NoPermissionError:
            return None
        return Memory(int(found["used_memory"]), int(found["maxmemory"]))

    async def _count_coordinators(self) -> int:
        """Count the consumers that live; a coordinator reads every lane by the same name."""
        living: set[bytes] = set()
        for lane in self._keys.lanes:
            try:
                consumers = await self._redis.xinfo_consumers(lane, GROUP)
            except ResponseError as error:
                if not str(error).startswith(("NOGROUP", "no such key")):  # nobody has ever read the queue
                    raise
                continue
            living.update(each["name"] for each in consumers if each["idle"] < GONE_MS)
        return len(living)
