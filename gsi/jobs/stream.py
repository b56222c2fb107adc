"""The jobs stream: who takes which entry, and who takes over what an absent coordinator left."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.jobs import scripts
from gsi.jobs.keys import GROUP, JOB_FIELD, Keys
from gsi.jobs.lanes import Turns

MAX_LEASES = 1000  # looked at: a coordinator holds tens


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry of a jobs stream (``lane``) that this consumer holds. ``is_redelivery``: another one held it before."""

    entry_id: str
    payload: bytes
    is_redelivery: bool
    lane: str
    job_id: str | None = None  # of a job that is pushed again: its payload need not name it


@dataclass(frozen=True, slots=True)
class Backlog:
    """``lag``: entries that nobody has taken; ``pending``: taken, not acknowledged."""

    lag: int
    pending: int


@dataclass(frozen=True, slots=True)
class Ages:
    """How long the queue's longest cases last, by the server's clock; 0 where there are none.

    ``oldest_waiting_seconds``: since the oldest entry that nobody has taken was added. ``lease_seconds``: the longest
    time since a lease was renewed.
    """

    oldest_waiting_seconds: float = 0.0
    lease_seconds: float = 0.0


class JobStream:
    """The jobs streams of one queue, a lane each, read as one consumer of their group."""

    def __init__(self, redis: Redis, keys: Keys, consumer: str) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._turns = Turns()
        self._now = redis.register_script(scripts.READ_CLOCK)
        self.consumer = consumer

    async def create_group(self) -> None:
        """Create streams and group where they are missing. At 0, so that jobs pushed before are read too."""
        for lane in self._keys.lanes:
            try:
                await self._redis.xgroup_create(lane, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def take_new(self, count: int, block_ms: int) -> list[Delivery]:
        """Take up to ``count`` entries that nobody has taken, each lane its share; wait up to ``block_ms`` for any.

        Takes none while the queue is paused.
        """
        if await self._redis.hget(self._keys.config, "paused") == b"1":
            await asyncio.sleep(block_ms / 1000)
            return []
        found: list[Delivery] = []
        for priority, share in self._turns.next(count).items():
            found += await self._take_from(self._keys.lane(priority), share)
        for lane in self._keys.lanes:  # what a lane has left of its share
            found += await self._take_from(lane, count - len(found))
        if not found:
            await self._redis.xread(
                dict.fromkeys(self._keys.lanes, "$"), count=1, block=block_ms
            )  # the next call takes it
        return found

    async def take_over(self, count: int, min_idle_ms: int) -> list[Delivery]:
        """Take over up to ``count`` entries whose holder has not renewed its lease for ``min_idle_ms``.

        Looks through all that are pending, however many healthy ones stand before an abandoned one.
        """
        found: list[Delivery] = []
        for lane in self._keys.lanes:
            found += await self._take_over_from(lane, count - len(found), min_idle_ms)
        return found

    async def backlog(self) -> Backlog:
        """Return what waits and what is in flight, over all lanes.

        A finished job's entry is deleted, so an entry that is not pending waits. The server's own ``lag`` is no help:
        once the entry delivered last is deleted while others wait, it is unknown until the stream is empty.
        """
        held = sum([await self._redis.xlen(lane) for lane in self._keys.lanes])
        pending = sum([(await self._group(lane)).get("pending", 0) for lane in self._keys.lanes])
        return Backlog(lag=max(0, held - pending), pending=pending)

    async def ages(self) -> Ages:
        """Return how long the longest wait and the longest unrenewed lease last, over all lanes.

        Of each lane's leases it looks at the 1000 oldest entries'.
        """
        waiting, leases = [0.0], [0.0]
        for lane in self._keys.lanes:
            group = await self._group(lane)
            if group.get("lag") != 0:
                waiting.append(await self._waiting_seconds(lane, group))
            if group.get("pending"):
                pending = await self._redis.xpending_range(lane, GROUP, "-", "+", count=MAX_LEASES)
                leases += [entry["time_since_delivered"] / 1000 for entry in pending]
        return Ages(max(waiting), max(leases))

    async def has_group(self) -> bool:
        """Return whether a coordinator has ever read this queue, on this server's memory."""
        try:
            groups = await self._redis.xinfo_groups(self._keys.jobs)
        except ResponseError:  # no such key
            return False
        return any(group["name"] == GROUP.encode() for group in groups)

    async def _take_from(self, lane: str, count: int) -> list[Delivery]:
        if count < 1:
            return []
        answer = await self._grouped(self._redis.xreadgroup(GROUP, self.consumer, {lane: ">"}, count=count)) or []
        entries = [entry for _, entries in answer for entry in entries]
        return _deliveries(entries, lane, is_redelivery=False)

    async def _take_over_from(self, lane: str, count: int, min_idle_ms: int) -> list[Delivery]:
        found: list[Delivery] = []
        cursor = b"0-0"
        while len(found) < count:
            claim = self._redis.xautoclaim(
                lane, GROUP, self.consumer, min_idle_ms, start_id=cursor, count=count - len(found)
            )
            cursor, entries, _ = await self._grouped(claim) or (b"0-0", [], [])
            found += _deliveries(entries, lane, is_redelivery=True)
            if cursor == b"0-0":
                break
        return found

    async def _waiting_seconds(self, lane: str, group: Mapping[str, Any]) -> float:
        """Return the age of the lane's first entry behind the last one that was taken; 0 if there is none."""
        last = group.get("last-delivered-id", b"0-0").decode()
        first = await self._redis.xrange(lane, min=f"({last}", count=1)
        if not first:
            return 0.0
        added_ms = int(first[0][0].split(b"-")[0])
        return max(0.0, (int(await self._now([lane])) - added_ms) / 1000)

    async def _group(self, lane: str) -> dict[str, Any]:
        groups = await self._grouped(self._redis.xinfo_groups(lane)) or []
        return next((group for group in groups if group["name"] == GROUP.encode()), {})

    async def _grouped(self, command: Awaitable[Any]) -> Any:
        """Send a command that needs the group; on a server that came back empty, make the group and answer None."""
        try:
            return await command
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "no such key")):
                raise
            await self.create_group()
            return None


def _deliveries(
    entries: Sequence[tuple[bytes, dict[bytes, bytes]]], lane: str, *, is_redelivery: bool
) -> list[Delivery]:
    return [
        Delivery(entry_id.decode(), fields.get(JOB_FIELD.encode(), b""), is_redelivery, lane, _id(fields))
        for entry_id, fields in entries
    ]


def _id(fields: dict[bytes, bytes]) -> str | None:
    job_id = fields.get(b"id")
    return job_id.decode(errors="replace") if job_id else None
