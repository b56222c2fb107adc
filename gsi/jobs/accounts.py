"""Accounts of requests whose tokens are not counted yet, so that no loss of a gateway makes them free.

| key                                  | type   | lives                       | holds |
|--------------------------------------|--------|-----------------------------|-------|
| gsi:{gsi-gateway}:accounts:<gateway> | hash   | 30 days, from its last use  | by request: key and jobs |
| gsi:{gsi-gateway}:accountants        | set    | a member: as its accounts   | gateways that have open accounts |
| gsi:{gsi-gateway}:alive:<gateway>    | string | some seconds                | says that a gateway lives |
"""

from typing import Any

from redis.asyncio import Redis

from gsi.jobs.api_keys import PREFIX, record_of
from gsi.jobs.keys import Key
from gsi.jobs.scripts import calls

ACCOUNTANTS = f"{PREFIX}accountants"
LIFETIME_SECONDS = 30 * 86_400


class OpenAccounts:
    """The open accounts of one gateway, and of those that are lost."""

    def __init__(self, redis: Redis, gateway: str) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self.gateway = gateway

    async def open(self, request: str, account: str) -> None:
        """Note an account of a request, before its jobs are pushed."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(_accounts_of(self.gateway), request, account)
            pipeline.expire(_accounts_of(self.gateway), LIFETIME_SECONDS)
            pipeline.sadd(ACCOUNTANTS, self.gateway)
            await pipeline.execute()

    async def settle(self, gateway: str, request: str, digest: str, num_tokens: int) -> bool:
        """Count tokens against the budget of the key whose secret has this digest, and close the account.

        Returns False, and counts nothing, if the account was closed before.
        """
        return await calls.settle_account(
            self._redis,
            accounts=_accounts_of(gateway),
            record=Key(record_of(digest)),
            request=request,
            num_tokens=num_tokens,
        )

    async def live(self, seconds: float) -> None:
        """Say that this gateway lives, for so long."""
        await self._redis.set(_life_of(self.gateway), "", px=int(seconds * 1000))

    async def die(self) -> None:
        """Let other gateways settle what this one leaves open, at once."""
        await self._redis.delete(_life_of(self.gateway))

    async def abandoned(self) -> list[tuple[str, str, str]]:
        """Return the open accounts of gateways that do not live: gateway, request and account."""
        found = []
        for gateway in sorted(name.decode() for name in await self._redis.smembers(ACCOUNTANTS)):
            if gateway == self.gateway or await self._redis.exists(_life_of(gateway)):
                continue
            accounts = await self._redis.hgetall(_accounts_of(gateway))
            if not accounts:
                await self._redis.srem(ACCOUNTANTS, gateway)
            found += [(gateway, request.decode(), account.decode()) for request, account in accounts.items()]
        return found


def _accounts_of(gateway: str) -> Key:
    return Key(f"{PREFIX}accounts:{gateway}")


def _life_of(gateway: str) -> str:
    return f"{PREFIX}alive:{gateway}"
