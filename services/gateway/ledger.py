"""Each request's tokens are counted against its key once, also if its gateway is killed before its jobs have ended.

A request of a key gets an account in Redis before its jobs are pushed, and the end of the request closes it. Gateways
say that they live; the accounts of one that does not are settled by another one, when their jobs have finished.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from gsi.errors import InvalidRequestError
from gsi.jobs.accounts import OpenAccounts
from gsi.jobs.api_keys import ApiKey
from gsi.jobs.connection import RedisError
from services.gateway.answers import Answers
from services.gateway.guard import Caller, Guard
from services.gateway.queues import Queue
from services.gateway.tokens import Tokens
from services.gateway.translation import Order

log = structlog.get_logger()

SCAN_SECONDS = 1.0
ALIVE_SECONDS = 5.0  # after which another gateway settles what a lost one left


class Account(BaseModel):
    """What settling a request needs to know."""

    model_config = ConfigDict(frozen=True)

    key: ApiKey
    digest: str
    queue: str
    job_ids: tuple[str, ...]


@dataclass(slots=True)
class Entry:
    """A request that is being answered. ``account`` None: it is nobody's."""

    ledger: "Ledger"
    request: str
    account: Account | None
    is_settled: bool = False

    async def settle(self, answers: Answers) -> None:
        """Count the tokens of the jobs that this request has made."""
        await self.ledger.settle(self, answers.spent)

    @property
    def can_be_settled_later(self) -> bool:
        return self.account is not None

    def leave(self) -> None:
        """Settle the request later, from the records of its jobs, if it is not settled."""
        self.ledger.leave(self)


class Ledger:
    """The accounts of a gateway. ``store`` None: no key is asked for, and nothing is owed."""

    def __init__(self, guard: Guard, queues: Mapping[str, Queue], store: OpenAccounts | None) -> None:
        self._guard = guard
        self._queues = queues
        self._store = store
        self._left: dict[str, Account] = {}  # by request: nobody waits for it, and it is not settled

    async def open(self, caller: Caller, order: Order) -> Entry:
        """Open the account of a request, before its jobs are pushed."""
        request = order.jobs[0].job_id
        if self._store is None or caller.key is None:
            return Entry(self, request, None)
        job_ids = tuple(job.job_id for job in order.jobs)
        account = Account(key=caller.key, digest=caller.digest, queue=order.preset.queue, job_ids=job_ids)
        await self._store.open(request, account.model_dump_json())
        return Entry(self, request, account)

    async def settle(self, entry: Entry, tokens: Tokens) -> None:
        """Count the tokens of a request, unless they are counted."""
        if self._store is None or entry.account is None:
            await self._guard.note(None, tokens)
        else:
            await self._count(self._store, self._store.gateway, entry.request, entry.account, tokens)
        entry.is_settled = True

    def leave(self, entry: Entry) -> None:
        """Note that nobody waits for a request any more."""
        if entry.account is not None and not entry.is_settled:
            self._left[entry.request] = entry.account

    async def run(self) -> None:
        """Say that this gateway lives, and settle what was left open here and by lost gateways, until cancelled."""
        if self._store is None:
            return
        try:
            while True:
                with suppress(RedisError):  # the next scan finds them
                    await self._store.live(ALIVE_SECONDS)
                    await self._scan(self._store)
                await asyncio.sleep(SCAN_SECONDS)
        finally:
            with suppress(RedisError):
                await asyncio.shield(self._store.die())

    async def _scan(self, store: OpenAccounts) -> None:
        for request, account in list(self._left.items()):
            if await self._settle_from_records(store, store.gateway, request, account):
                self._left.pop(request)
        for gateway, request, text in await store.abandoned():
            try:
                account = Account.model_validate_json(text)
            except ValidationError as error:  # of another release, which may know it
                log.warning("an account cannot be read", gateway=gateway, request=request, reason=str(error))
                continue
            if await self._settle_from_records(store, gateway, request, account):
                log.info("a request of a lost gateway is settled", gateway=gateway, request=request)

    async def _settle_from_records(self, store: OpenAccounts, gateway: str, request: str, account: Account) -> bool:
        """Settle a request if all of its jobs have finished; return whether it is settled."""
        queue = self._queues.get(account.queue)
        if queue is None:  # a gateway with other presets knows it
            return False
        states = await queue.client.states(account.job_ids)
        if any(state is not None and not state.is_finished for state in states):
            return False
        spent = Tokens()
        for job_id in account.job_ids:
            with suppress(InvalidRequestError):  # it was never pushed, or its record is gone
                spent.add(Tokens.of(await queue.client.result(job_id)))
        await self._count(store, gateway, request, account, spent)
        return True

    async def _count(self, store: OpenAccounts, gateway: str, request: str, account: Account, tokens: Tokens) -> None:
        if await store.settle(gateway, request, account.digest, tokens.total):
            await self._guard.note(account.key, tokens)


@asynccontextmanager
async def settling(ledger: Ledger) -> AsyncIterator[None]:
    """Settle what is left open while the block runs."""
    task = asyncio.create_task(ledger.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
