"""Keys of the gateway's users: whose jobs a request submits, and how much it may ask.

A key is a secret of 256 random bits, which its holder alone knows. Redis holds its SHA-256, which needs no salt and no
slow hash because nobody can guess a random secret. All keys of this module share one hash tag, as those of a queue do.

| key                            | type   | lives                     | holds |
|--------------------------------|--------|---------------------------|-------|
| gsi:{gsi-gateway}:key:<digest> | hash   | until the key is revoked  | ``key``: ``ApiKey`` as JSON; ``spent``: tokens |
| gsi:{gsi-gateway}:keys         | set    | for ever                  | the digests of all keys |
| gsi:{gsi-gateway}:rate:…       | string | a minute or two           | how much of a key's rate is used |
"""

import secrets
import time
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from redis.asyncio import Redis

from gsi.errors import InvalidRequestError
from gsi.jobs.keys import DEFAULT_TENANT
from gsi.jobs.payload import TENANT_PATTERN

TAG = "gsi-gateway"  # the hash tag; connect() takes it as the name of a queue
PREFIX = f"gsi:{{{TAG}}}:"
SECRET_PREFIX = "gsi-"  # a scanner for leaked secrets finds it
ID_DIGITS = 12  # of the digest: enough to name a key among thousands
MAX_AMOUNT = 10**15

Text = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Right(StrEnum):
    """What a key may do. Each right includes those before it."""

    READ = "read"  # look at its tenant's jobs, responses, files and batches
    SUBMIT = "submit"  # submit, cancel and retry jobs of its tenant
    OPERATE = "operate"  # look at and act on the jobs of every tenant; pause and resume queues

    @property
    def included(self) -> tuple["Right", ...]:
        """Return this right and those that it includes."""
        rights = tuple(Right)
        return rights[: rights.index(self) + 1]


def _is_submit(right: object) -> bool:
    return right is Right.SUBMIT


class ApiKey(BaseModel):
    """What a key allows. None: no limit. Times are seconds since 1970, rates are per minute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: Text
    tenant: str = Field(DEFAULT_TENANT, pattern=TENANT_PATTERN)
    models: tuple[Text, ...] = ()  # none: all
    # Not written if it is the default: a gateway of the release before rights reads such a key, as this one reads its.
    right: Right = Field(Right.SUBMIT, exclude_if=_is_submit)
    requests_per_minute: int | None = Field(None, ge=1, le=MAX_AMOUNT)
    tokens_per_minute: int | None = Field(None, ge=1, le=MAX_AMOUNT)
    budget_tokens: int | None = Field(None, ge=1, le=MAX_AMOUNT)
    created_at: int
    expires_at: int | None = None

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()

    def allows(self, model: str) -> bool:
        """Return whether the key may ask this model."""
        return not self.models or model in self.models


class ApiKeys:
    """The keys of one server."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union

    async def create(self, name: str, **allowed: Any) -> tuple[str, ApiKey]:
        """Make a key with the fields of ``ApiKey``; return its secret, which is kept nowhere, and what it allows.

        Raises InvalidRequestError that names a field at fault.
        """
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        digest = digest_of(secret)
        try:
            key = ApiKey(id=digest[:ID_DIGITS], name=name, created_at=int(time.time()), **allowed)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidRequestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        await self._redis.hset(record_of(digest), mapping={"key": key.model_dump_json(), "spent": 0})
        await self._redis.sadd(f"{PREFIX}keys", digest)
        return secret, key

    async def list(self) -> list[tuple[ApiKey, int]]:
        """Return all keys, the oldest first, each with the tokens that it has spent."""
        digests = sorted(digest.decode() for digest in await self._redis.smembers(f"{PREFIX}keys"))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for digest in digests:
                pipeline.hmget(record_of(digest), "key", "spent")
            found = await pipeline.execute() if digests else []
        keys = [(ApiKey.model_validate_json(key), int(spent or 0)) for key, spent in found if key]
        return sorted(keys, key=lambda pair: (pair[0].created_at, pair[0].name))

    async def revoke(self, key_id: str) -> ApiKey:
        """Delete a key; the next request that shows it is refused. Raises InvalidRequestError if there is none."""
        for digest in await self._redis.smembers(f"{PREFIX}keys"):
            if digest.decode()[:ID_DIGITS] == key_id:
                found = await self._redis.hget(record_of(digest.decode()), "key")
                await self._redis.delete(record_of(digest.decode()))
                await self._redis.srem(f"{PREFIX}keys", digest)
                if found:
                    return ApiKey.model_validate_json(found)
        raise InvalidRequestError(f"id: no key {key_id}; gsi keys list shows all")

    async def find(self, secret: str) -> tuple[ApiKey, int] | None:
        """Return what a secret allows, and the tokens that it has spent; None for a secret of no key."""
        key, spent = await self._redis.hmget(record_of(digest_of(secret)), "key", "spent")
        return (ApiKey.model_validate_json(key), int(spent or 0)) if key else None

    async def spend(self, digest: str, num_tokens: int) -> None:
        """Count tokens against the budget of the key whose secret has this digest, unless it was revoked meanwhile."""
        record = record_of(digest)
        if await self._redis.hexists(record, "key"):
            await self._redis.hincrby(record, "spent", num_tokens)


def digest_of(secret: str) -> str:
    """Return what Redis knows a secret by."""
    return sha256(secret.encode()).hexdigest()


def record_of(digest: str) -> str:
    """Return where Redis keeps the key whose secret has this digest."""
    return f"{PREFIX}key:{digest}"
