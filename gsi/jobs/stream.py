"""The jobs streams: which consumer gets which entry, and how entries of a lost coordinator are taken over.

A queue has a stream for each priority, a lane. Coordinators read the lanes as one consumer group.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.jobs.keys import GROUP, JOB_FIELD, Key, Keys, Priority
from gsi.jobs.scripts import calls
from gsi.limits import JOB_ID_PATTERN, SHOWN_CHARACTERS

MAX_LEASES = 1000  # whose age is looked at, in each lane; a coordinator holds tens

# Of ten slots six go first to the high lane, three to the normal one and one to the low one. Slots that a lane does not
# use go to the other lanes. So no lane starves, however full the lanes above it are.
TURNS = "HHNHHNHHNL"
LANE_OF_TURN = {"H": Priority.HIGH, "N": Priority.NORMAL, "L": Priority.LOW}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry of a jobs stream (``lane``) that a consumer holds.

    ``job_id`` is set if the job was pushed again: its payload need not name it. ``refusal`` says why the entry is
    refused, whatever its payload says.
    """

    entry_id: str
    payload: bytes
    lane: Key
    consumer: str
    job_id: str | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """``lag`` counts the entries that no consumer has taken, ``pending`` those that are taken and not acknowledged."""

    lag: int
    pending: int


@dataclass(frozen=True, slots=True)
class Ages:
    """The longest wait and the oldest lease of a queue, by the server's clock; 0 if there are none.

    ``oldest_waiting_seconds`` is the age of the oldest entry that no consumer has taken. ``lease_seconds`` is the
    longest time since a lease was renewed.
    """

    oldest_waiting_seconds: float = 0.0
    lease_seconds: float = 0.0


class JobStream:
    """The lanes of one queue, read as one consumer of their group.

    Streams and group that are missing are created, unless it may not: one who only looks then sees an empty queue.
    """

    def __init__(self, redis: Redis, keys: Keys, consumer: str, *, may_create: bool = True) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys
        self._turns = cycle(TURNS)
        self._consumer = consumer
        self._may_create = may_create

    async def create_group(self) -> None:
        """Create the streams and the group where they are missing.

        The group starts at 0, so that it also reads the jobs that were pushed before.
        """
        for lane in self._keys.lanes:
            try:
                await self._redis.xgroup_create(lane, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def take_new(self, count: int, block_ms: int) -> list[Delivery]:
        """Take up to ``count`` entries that no consumer has taken, from each lane its share.

        Waits up to ``block_ms`` for the first one. Takes none while the queue is paused.
        """
        if await self._redis.hget(self._keys.config, "paused") == b"1":
            await asyncio.sleep(block_ms / 1000)
            return []
        found: list[Delivery] = []
        shares = Counter(LANE_OF_TURN[next(self._turns)] for _ in range(count))
        for priority in Priority:
            found += await self._take_from(self._keys.lane(priority), shares[priority])
        for lane in self._keys.lanes:  # the slots that lanes have left
            found += await self._take_from(lane, count - len(found))
        if not found:
            await self._redis.xread(
                dict.fromkeys(self._keys.lanes, "$"), count=1, block=block_ms
            )  # the next call takes it
        return found

    async def take_over(self, count: int, min_idle_ms: int) -> list[Delivery]:
        """Take over up to ``count`` entries whose lease was not renewed for ``min_idle_ms``.

        Looks through all pending entries, however many healthy ones stand before an abandoned one.
        """
        found: list[Delivery] = []
        for lane in self._keys.lanes:
            found += await self._take_over_from(lane, count - len(found), min_idle_ms)
        return found

    async def leave(self) -> None:
        """Remove this consumer from every lane where it holds no entry."""
        for lane in self._keys.lanes:
            await self._with_group(calls.remove_consumer(self._redis, lane=lane, consumer=self._consumer))

    async def idle_consumers(self, min_idle_ms: int) -> list[tuple[Key, str]]:
        """Return lane and name of each consumer that holds no entry and has not asked for one for ``min_idle_ms``."""
        return [
            (lane, each["name"].decode())
            for lane in self._keys.lanes
            for each in await self._with_group(self._redis.xinfo_consumers(lane, GROUP)) or []
            if each["idle"] >= min_idle_ms and not each["pending"]
        ]

    async def remove_idle_consumers(self, min_idle_ms: int) -> list[tuple[Key, str]]:
        """Remove the idle consumers and return them.

        A coordinator that was killed cannot leave; one that lives is soon added again.
        """
        idle = await self.idle_consumers(min_idle_ms)
        for lane, consumer in idle:
            await calls.remove_consumer(self._redis, lane=lane, consumer=consumer)
        return idle

    async def backlog(self) -> Backlog:
        """Count the entries that wait and the entries in flight, over all lanes.

        A finished job's entry is deleted, so an entry that is not pending waits. The server's own ``lag`` does not
        serve: if the newest delivered entry is deleted while others wait, it is unknown until the stream is empty.
        """
        held = sum([await self._redis.xlen(lane) for lane in self._keys.lanes])
        pending = sum([(await self._group(lane)).get("pending", 0) for lane in self._keys.lanes])
        return Backlog(lag=max(0, held - pending), pending=pending)

    async def ages(self) -> Ages:
        """Return the longest wait and the longest time without renewal of a lease, over all lanes.

        It looks at the leases of the 1000 oldest entries of each lane.
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
        """Return whether a coordinator has read this queue, as far as this server remembers."""
        try:
            groups = await self._redis.xinfo_groups(self._keys.jobs)
        except ResponseError:  # no such key
            return False
        return any(group["name"] == GROUP.encode() for group in groups)

    async def _take_from(self, lane: Key, count: int) -> list[Delivery]:
        if count < 1:
            return []
        answer = await self._with_group(self._redis.xreadgroup(GROUP, self._consumer, {lane: ">"}, count=count)) or []
        return [self._to_delivery(entry, lane) for _, entries in answer for entry in entries]

    async def _take_over_from(self, lane: Key, count: int, min_idle_ms: int) -> list[Delivery]:
        found: list[Delivery] = []
        cursor = b"0-0"
        while len(found) < count:
            claim = self._redis.xautoclaim(
                lane, GROUP, self._consumer, min_idle_ms, start_id=cursor, count=count - len(found)
            )
            cursor, entries, _ = await self._with_group(claim) or (b"0-0", [], [])
            found += [self._to_delivery(entry, lane) for entry in entries]
            if cursor == b"0-0":
                break
        return found

    def _to_delivery(self, entry: tuple[bytes, Mapping[bytes, bytes]], lane: Key) -> Delivery:
        entry_id, fields = entry
        job_id = fields.get(b"id", b"").decode(errors="replace")
        is_allowed = re.fullmatch(JOB_ID_PATTERN, job_id) is not None  # an entry's own id is allowed, too
        return Delivery(
            entry_id.decode(),
            fields.get(JOB_FIELD.encode(), b""),
            lane,
            self._consumer,
            job_id if is_allowed else None,
            "" if is_allowed or b"id" not in fields else _refuse_id(job_id),
        )

    async def _waiting_seconds(self, lane: Key, group: Mapping[str, Any]) -> float:
        """Return the age of the lane's first entry behind the newest one that was taken; 0 if there is none."""
        last = group.get("last-delivered-id", b"0-0").decode()
        first = await self._redis.xrange(lane, min=f"({last}", count=1)
        if not first:
            return 0.0
        added_ms = int(first[0][0].split(b"-")[0])
        return max(0.0, (await calls.read_clock(self._redis, key=lane) - added_ms) / 1000)

    async def _group(self, lane: Key) -> dict[str, Any]:
        groups = await self._with_group(self._redis.xinfo_groups(lane)) or []
        return next((group for group in groups if group["name"] == GROUP.encode()), {})

    async def _with_group(self, command: Awaitable[Any]) -> Any:
        """Send a command that needs the group; without a group return None, and create it where that is allowed.

        A server that came back empty has none.
        """
        try:
            return await command
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "no such key")):
                raise
            if self._may_create:
                await self.create_group()
            return None


def _refuse_id(job_id: str) -> str:
    shown = json.dumps(job_id[:SHOWN_CHARACTERS], ensure_ascii=False)
    return f"id: {shown} in the entry's field id is not allowed; allowed: text that matches {JOB_ID_PATTERN}"
