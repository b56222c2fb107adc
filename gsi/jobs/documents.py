"""What the gateway keeps beside its jobs: documents of each tenant, such as responses; which batches are unfinished.

| key                                    | type   | lives                       | holds |
|----------------------------------------|--------|-----------------------------|-------|
| gsi:{gsi-gateway}:<kind>:<tenant>:<id> | string | its lifetime, or to the end | JSON of the gateway |
| gsi:{gsi-gateway}:<kind>s:<tenant>     | zset   | a member: as its document   | ids, by time of creation |
| gsi:{gsi-gateway}:unfinished           | set    | a member: as its work       | tenant/id of batches |
| gsi:{gsi-gateway}:cancelling           | set    | a member: as its work       | those that are to be cancelled |
| gsi:{gsi-gateway}:owner:<tenant>/<id>  | string | some seconds                | the gateway that works on a batch |
"""

from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from gsi.jobs.api_keys import PREFIX

UNFINISHED, CANCELLING = f"{PREFIX}unfinished", f"{PREFIX}cancelling"


class Documents:
    """Documents of one kind. Each call names the tenant, so that no id leads to another tenant's document."""

    def __init__(self, redis: Redis, kind: str) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._kind = kind

    async def save(
        self, tenant: str, name: str, document: str, lifetime_seconds: float, created: float | None = None
    ) -> None:
        """Keep a document for so long. ``created`` orders the listed ones, in seconds since 1970; the first counts.

        None: it is in no list.
        """
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(self._key(tenant, name), document, px=int(lifetime_seconds * 1000))
            if created is not None:
                pipeline.zadd(self._index(tenant), {name: created}, nx=True)
            await pipeline.execute()

    async def load(self, tenant: str, name: str) -> str | None:
        """Return a document; None if this tenant has none of this name."""
        found: bytes | None = await self._redis.get(self._key(tenant, name))
        return None if found is None else found.decode()

    async def delete(self, tenant: str, name: str) -> None:
        """Forget a document. Its name keeps its place in the list for those who read on from there."""
        await self._redis.delete(self._key(tenant, name))

    async def list(
        self,
        tenant: str,
        limit: int,
        after: str | None = None,
        *,
        oldest_first: bool = False,
        is_wanted: Callable[[str], bool] = lambda _document: True,
    ) -> tuple[list[str], bool] | None:
        """Return a tenant's documents, the newest first, and whether there are more.

        ``after``: only those behind this name. None: no document of this name is known.
        """
        index, found, gone = self._index(tenant), list[str](), list[str]()
        read_rank, read_range = (
            (self._redis.zrank, self._redis.zrange) if oldest_first else (self._redis.zrevrank, self._redis.zrevrange)
        )
        first = 0
        if after is not None:
            rank = await read_rank(index, after)
            if rank is None:
                return None
            first = rank + 1
        while len(found) <= limit and (names := await read_range(index, first, first + limit)):
            first += len(names)
            for name in map(bytes.decode, names):
                document = await self.load(tenant, name)
                if document is None:
                    gone.append(name)
                elif is_wanted(document):
                    found.append(document)
        if gone:
            await self._redis.zrem(index, *gone)
        return found[:limit], len(found) > limit

    def _key(self, tenant: str, name: str) -> str:
        return f"{PREFIX}{self._kind}:{tenant}:{name}"

    def _index(self, tenant: str) -> str:
        return f"{PREFIX}{self._kind}s:{tenant}"


class Unfinished:
    """The batches that are not finished. A gateway works on one that has no owner, or whose owner is gone."""

    def __init__(self, redis: Redis, owner: str) -> None:
        self._redis: Any = redis
        self._owner = owner

    async def add(self, tenant: str, name: str) -> None:
        """Note a batch."""
        await self._redis.sadd(UNFINISHED, f"{tenant}/{name}")

    async def remove(self, tenant: str, name: str) -> None:
        """Forget a batch that is finished, and who owned it."""
        for key in (UNFINISHED, CANCELLING):
            await self._redis.srem(key, f"{tenant}/{name}")
        await self._redis.delete(_owner_key(tenant, name))

    async def cancel(self, tenant: str, name: str) -> None:
        """Ask the owner to stop."""
        await self._redis.sadd(CANCELLING, f"{tenant}/{name}")

    async def is_cancelled(self, tenant: str, name: str) -> bool:
        """Return whether the owner is to stop."""
        return bool(await self._redis.sismember(CANCELLING, f"{tenant}/{name}"))

    async def list(self) -> list[tuple[str, str]]:
        """Return tenant and name of each."""
        found = sorted(member.decode().partition("/") for member in await self._redis.smembers(UNFINISHED))
        return [(tenant, name) for tenant, _, name in found]

    async def own(self, tenant: str, name: str, seconds: float) -> bool:
        """Become or stay the owner for so long; return whether this gateway is."""
        key, lease_ms = _owner_key(tenant, name), int(seconds * 1000)
        if await self._redis.set(key, self._owner, nx=True, px=lease_ms):
            return True
        if await self._redis.get(key) != self._owner.encode():
            return False
        return bool(await self._redis.pexpire(key, lease_ms))

    async def release(self, tenant: str, name: str) -> None:
        """Let another gateway go on at once."""
        if await self._redis.get(_owner_key(tenant, name)) == self._owner.encode():
            await self._redis.delete(_owner_key(tenant, name))


def _owner_key(tenant: str, name: str) -> str:
    return f"{PREFIX}owner:{tenant}/{name}"
