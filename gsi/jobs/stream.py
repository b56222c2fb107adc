"""The jobs stream: who takes which entry, and who takes over what an absent coordinator left."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.jobs.keys import GROUP, JOB_FIELD, Keys


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry of the jobs stream that this consumer holds. ``is_redelivery``: another one held it before."""

    entry_id: str
    payload: bytes
    is_redelivery: bool


@dataclass(frozen=True, slots=True)
class Backlog:
    """``lag``: entries that nobody has taken (None: the server cannot tell); ``pending``: taken, not acknowledged."""

    lag: int | None
    pending: int


class JobStream:
    """The jobs stream of one queue, read as one consumer of the group."""

    def __init__(self, redis: Redis, keys: Keys, consumer: str) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self.consumer = consumer

    async def create_group(self) -> None:
        """Create stream and group where they are missing. At 0, so that jobs pushed before are read too."""
        try:
            await self._redis.xgroup_create(self._keys.jobs, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def take_new(self, count: int, block_ms: int) -> list[Delivery]:
        """Take up to ``count`` entries that nobody has taken; wait up to ``block_ms`` for the first."""
        read = self._redis.xreadgroup(GROUP, self.consumer, {self._keys.jobs: ">"}, count=count, block=block_ms)
        answer = await self._grouped(read) or []
        return _deliveries([entry for _, entries in answer for entry in entries], is_redelivery=False)

    async def take_over(self, count: int, min_idle_ms: int) -> list[Delivery]:
        """Take over up to ``count`` entries whose holder has not renewed its lease for ``min_idle_ms``.

        Looks through all that are pending, however many healthy ones stand before an abandoned one.
        """
        found: list[Delivery] = []
        cursor = b"0-0"
        while len(found) < count:
            claim = self._redis.xautoclaim(
                self._keys.jobs, GROUP, self.consumer, min_idle_ms, start_id=cursor, count=count - len(found)
            )
            cursor, entries, _ = await self._grouped(claim) or (b"0-0", [], [])
            found += _deliveries(entries, is_redelivery=True)
            if cursor == b"0-0":
                break
        return found

    async def backlog(self) -> Backlog:
        groups = await self._grouped(self._redis.xinfo_groups(self._keys.jobs)) or []
        ours: dict[str, Any] = next((group for group in groups if group["name"] == GROUP.encode()), {})
        return Backlog(lag=ours.get("lag"), pending=ours.get("pending", 0))

    async def has_group(self) -> bool:
        """Return whether a coordinator has ever read this queue, on this server's memory."""
        try:
            groups = await self._redis.xinfo_groups(self._keys.jobs)
        except ResponseError:  # no such key
            return False
        return any(group["name"] == GROUP.encode() for group in groups)

    async def _grouped(self, command: Awaitable[Any]) -> Any:
        """Send a command that needs the group; on a server that came back empty, make the group and answer None."""
        try:
            return await command
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "no such key")):
                raise
            await self.create_group()
            return None


def _deliveries(entries: Sequence[tuple[bytes, dict[bytes, bytes]]], *, is_redelivery: bool) -> list[Delivery]:
    return [
        Delivery(entry_id.decode(), fields.get(JOB_FIELD.encode(), b""), is_redelivery) for entry_id, fields in entries
    ]
