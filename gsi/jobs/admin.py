"""The operator's side of a queue: create it, pause it, limit it, measure what it holds."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from gsi.errors import InvalidRequestError
from gsi.jobs.check import IDLE_CONSUMER_SECONDS, Finding, QueueCheck
from gsi.jobs.connection import LOST_CONNECTION, REFUSED
from gsi.jobs.keys import Keys, Priority
from gsi.jobs.queue_models import QueueModels
from gsi.jobs.stream import JobStream

SCAN_COUNT = 500
MAX_JOBS = 10_000_000
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What a queue holds. ``keys`` and ``bytes`` are by kind of key; the bytes are the server's estimate."""

    is_paused: bool
    max_jobs: int | None  # None: no limit
    entries: dict[str, int]  # by lane: jobs that wait or run
    lag: int  # entries that no coordinator has taken
    pending: int  # entries of jobs that run
    delayed: int  # jobs that wait for their next attempt
    dead: int
    keys: dict[str, int]
    bytes: dict[str, int]


class QueueAdmin:
    """Administers one queue. ``models``: those that it is served with."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._stream = JobStream(redis, keys, consumer="")
        self.models = QueueModels(redis, keys)

    async def create(self, wait_seconds: float = 0) -> None:
        """Create the streams and the coordinators' group where they are missing. Autoscalers look at these.

        Waits up to ``wait_seconds`` for an unavailable server, then raises its error.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_unavailable),
            stop=stop_after_delay(wait_seconds),
            wait=wait_fixed(POLL_SECONDS),
            reraise=True,
        )
        await retrying(self._stream.create_group)

    async def pause(self) -> None:
        """Stop coordinators from taking new jobs. Jobs that run continue."""
        await self._redis.hset(self._keys.config, "paused", "1")

    async def resume(self) -> None:
        """Let coordinators take jobs again."""
        await self._redis.hdel(self._keys.config, "paused")

    async def limit(self, max_jobs: int | None) -> None:
        """Refuse submissions by the SDK while the queue has ``max_jobs`` jobs. None: no limit.

        Raises InvalidRequestError for a limit out of range.
        """
        if max_jobs is None:
            await self._redis.hdel(self._keys.config, "max_jobs")
            return
        if not 1 <= max_jobs <= MAX_JOBS:
            raise InvalidRequestError(f"max_jobs: {max_jobs} is not allowed; allowed: 1 to {MAX_JOBS}, or none")
        await self._redis.hset(self._keys.config, "max_jobs", str(max_jobs))

    async def stats(self) -> QueueStats:
        """Count jobs, keys and bytes. Scans the server's keys in portions."""
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

    def check(
        self, *, repair: bool = False, idle_consumer_seconds: float = IDLE_CONSUMER_SECONDS
    ) -> AsyncIterator[Finding]:
        """Yield what breaks the queue's invariants, and mend it if asked to. Safe beside running coordinators."""
        return QueueCheck(self._redis, self._keys, repair=repair).run(idle_consumer_seconds)

    async def _memory(self) -> tuple[Counter[str], Counter[str]]:
        keys, sizes = Counter[str](), Counter[str]()
        prefix = self._keys.prefix
        cursor = 0
        while True:
            cursor, found = await self._redis.scan(cursor, match=f"{prefix}*", count=SCAN_COUNT)
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key in found:
                    pipeline.memory_usage(key)
                for key, size in zip(found, await pipeline.execute() if found else [], strict=True):
                    kind = _kind_of(key.decode().removeprefix(prefix))
                    keys[kind] += 1
                    sizes[kind] += size or 0  # None: the key has expired meanwhile
            if cursor == 0:
                return keys, sizes


def _is_unavailable(error: BaseException) -> bool:
    """Return whether waiting may help. redis-py's error for a wrong password is a ConnectionError, too."""
    return isinstance(error, LOST_CONNECTION) and not isinstance(error, REFUSED)


def _kind_of(name: str) -> str:
    """Return the kind of a key: its name without the id."""
    if name.startswith("job:"):
        return "steps" if name.endswith(":steps") else "records"
    return name.partition(":")[0]
