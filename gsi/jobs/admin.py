"""What operators do with a queue: pause it, limit it, look at what it holds."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from gsi.errors import InvalidRequestError
from gsi.jobs.connection import LOST_CONNECTION, REFUSED
from gsi.jobs.keys import Keys, Priority
from gsi.jobs.stream import JobStream

SCAN_COUNT = 500
MAX_JOBS = 10_000_000
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What a queue holds; bytes are the server's own estimate."""

    is_paused: bool
    max_jobs: int | None  # None: no limit
    entries: dict[str, int]  # by lane: jobs that wait or run
    lag: int  # entries that nobody has taken
    pending: int  # taken, not finished
    delayed: int  # wait for their next attempt
    dead: int
    keys: dict[str, int]  # by kind of key
    bytes: dict[str, int]  # the same


class QueueAdmin:
    """One queue, as its operator sees it."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._stream = JobStream(redis, keys, consumer="")

    async def create(self, wait_seconds: float = 0) -> None:
        """Make the streams and the coordinators' group where they are missing: what an autoscaler looks at.

        A server that is away is waited for; after that long its error is raised.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_away),
            stop=stop_after_delay(wait_seconds),
            wait=wait_fixed(POLL_SECONDS),
            reraise=True,
        )
        await retrying(self._stream.create_group)

    async def pause(self) -> None:
        """Let coordinators take no new job; those that run go on."""
        await self._redis.hset(self._keys.config, "paused", "1")

    async def resume(self) -> None:
        await self._redis.hdel(self._keys.config, "paused")

    async def limit(self, max_jobs: int | None) -> None:
        """Refuse submissions by the SDK while there are so many jobs; None: no limit."""
        if max_jobs is None:
            await self._redis.hdel(self._keys.config, "max_jobs")
            return
        if not 1 <= max_jobs <= MAX_JOBS:
            raise InvalidRequestError(f"max_jobs: {max_jobs} is not allowed; allowed: 1 to {MAX_JOBS}, or none")
        await self._redis.hset(self._keys.config, "max_jobs", str(max_jobs))

    async def stats(self) -> QueueStats:
        """Count jobs, keys and bytes. Reads every key of the queue once, in portions."""
        config = await self._redis.hgetall(self._keys.config)
        backlog = await self._stream.backlog()
        keys, sizes = await self._memory()
        return QueueStats(
            is_paused=config.get(b"paused") == b"1",
            max_jobs=int(config[b"max_jobs"]) if b"max_jobs" in config else None,
            entries={priority: await self._redis.xlen(self._keys.lane(priority)) for priority in Priority},
            lag=backlog.lag,
            pending=backlog.pending,
            delayed=await self._redis.zcard(self._keys.delayed),
            dead=await self._redis.xlen(self._keys.dead),
            keys=dict(keys),
            bytes=dict(sizes),
        )

    async def _memory(self) -> tuple[Counter[str], Counter[str]]:
        keys, sizes = Counter[str](), Counter[str]()
        prefix = self._keys.record("").removesuffix("job:")
        cursor = 0
        while True:
            cursor, found = await self._redis.scan(cursor, match=f"{prefix}*", count=SCAN_COUNT)
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key in found:
                    pipeline.memory_usage(key)
                for key, size in zip(found, await pipeline.execute() if found else [], strict=True):
                    kind = _kind(key.decode().removeprefix(prefix))
                    keys[kind] += 1
                    sizes[kind] += size or 0  # it may have expired meanwhile
            if cursor == 0:
                return keys, sizes


def _is_away(error: BaseException) -> bool:
    """Return whether waiting may help. A wrong password is a ConnectionError of redis-py, and is not mended by it."""
    return isinstance(error, LOST_CONNECTION) and not isinstance(error, REFUSED)


def _kind(name: str) -> str:
    """Return what a key is, without the id in it."""
    if name.startswith("job:"):
        return "steps" if name.endswith(":steps") else "records"
    return name.partition(":")[0]
