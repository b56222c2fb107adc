"""``/v1/batches``: files of requests, answered by jobs of the low lane."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from gsi.client.gateway import Store
from gsi.jobs.connection import RedisError
from services.gateway import metrics
from services.gateway.batches.documents import Batch
from services.gateway.batches.lines import ENDPOINTS
from services.gateway.batches.work import BatchWork
from services.gateway.errors import ApiError, refuse
from services.gateway.files import MAX_LISTED, Files, FilesAwayError, not_listed
from services.gateway.gateway import Gateway
from services.gateway.guard import Caller

log = structlog.get_logger()

WINDOW = "24h"
WINDOW_SECONDS = 86_400
LIFETIME_SECONDS = 30 * 86_400.0
OWNED_SECONDS = 10.0  # after which another gateway goes on with a batch whose gateway was lost
SCAN_SECONDS = 1.0


class Batches:
    """Takes batches, and works on those that no other gateway works on."""

    def __init__(self, gateway: Gateway, files: Files, store: Store) -> None:
        self._gateway = gateway
        self._files = files
        self._store = store
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def create(self, caller: Caller, given: dict[str, object]) -> Batch:
        """Take a batch. Raises ApiError that names a field at fault."""
        for name in given:
            if name not in {"input_file_id", "endpoint", "completion_window", "metadata"}:
                raise refuse(name, "unknown", "unknown_parameter")
        if given.get("endpoint") not in ENDPOINTS:
            raise refuse("endpoint", f"not supported; allowed: {', '.join(ENDPOINTS)}")
        if given.get("completion_window") != WINDOW:
            raise refuse("completion_window", f"not supported; allowed: {WINDOW}")
        metadata = given.get("metadata")
        if not isinstance(metadata, dict | None):
            raise refuse("metadata", "not an object; allowed: an object of texts")
        file = await self._files.find(caller.tenant, str(given.get("input_file_id")))
        await self._gateway.guard.admit(caller)
        now = time.time()
        batch = Batch(
            id=f"batch_{secrets.token_hex(12)}",
            endpoint=str(given["endpoint"]),
            input_file_id=file.id,
            completion_window=WINDOW,
            created_at=int(now),
            expires_at=int(now) + WINDOW_SECONDS,
            metadata=metadata,
            tenant=caller.tenant,
            key=caller.key,
            digest=caller.digest,
        )
        await self._save(batch, now)
        await self._store.unfinished.add(batch.tenant, batch.id)
        return batch

    async def find(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch of a tenant. Raises ApiError 404."""
        found = await self._store.batches.load(tenant, batch_id)
        if found is None:
            raise ApiError(404, f"id: no batch {batch_id[:100]}", param="id", code="batch_not_found")
        return Batch.model_validate_json(found)

    async def list(self, tenant: str, limit: int, after: str | None) -> tuple[list[Batch], bool]:
        """Return the newest batches, and whether there are more. Raises ApiError 404 for an unknown ``after``."""
        page = await self._store.batches.list(tenant, min(max(limit, 1), MAX_LISTED), after)
        if page is None:
            raise not_listed("batch", after)
        return [Batch.model_validate_json(document) for document in page[0]], page[1]

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Ask for a batch to stop: what has finished is in its files. Raises ApiError 404, and 409 if it has ended."""
        batch = await self.find(tenant, batch_id)
        if batch.is_finished:
            raise ApiError(409, f"batch {batch_id} is {batch.status}", code="batch_finished")
        await self._store.unfinished.cancel(tenant, batch_id)
        return batch.moved("cancelling")

    async def run(self) -> None:
        """Work on unfinished batches until cancelled; then let other gateways go on with them."""
        try:
            while True:
                with suppress(RedisError):  # the next scan finds them
                    for tenant, batch_id in await self._store.unfinished.list():
                        await self._take(tenant, batch_id)
                metrics.BATCHES.set(sum(not task.done() for task in self._tasks.values()))
                await asyncio.sleep(SCAN_SECONDS)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take(self, tenant: str, batch_id: str) -> None:
        """Become or stay the owner of a batch; work on it unless that is being done."""
        name = (tenant, batch_id)
        is_owner = await self._store.unfinished.own(tenant, batch_id, OWNED_SECONDS)
        task = self._tasks.get(name)
        if task is not None and (task.done() or not is_owner):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                log.error("a batch has broken off; it begins again", batch=batch_id, exc_info=error)
            task.cancel()
            del self._tasks[name]
        elif task is None and is_owner:
            self._tasks[name] = asyncio.create_task(self._work(tenant, batch_id))

    async def _work(self, tenant: str, batch_id: str) -> None:
        try:
            batch = await self.find(tenant, batch_id)
            work = BatchWork(self._gateway, self._files, self._store.unfinished, self._save)
            await work.run(batch)
            await self._store.unfinished.remove(tenant, batch_id)
        except asyncio.CancelledError:
            with suppress(RedisError):
                await asyncio.shield(self._store.unfinished.release(tenant, batch_id))
            raise
        except (RedisError, OSError, FilesAwayError) as error:
            log.warning("a batch is interrupted; it goes on later", batch=batch_id, reason=str(error))
            with suppress(RedisError):  # perhaps another gateway can
                await self._store.unfinished.release(tenant, batch_id)
        except ApiError as error:  # the batch or its input is gone
            log.warning("a batch cannot go on", batch=batch_id, reason=str(error))
            await self._give_up(tenant, batch_id, error)

    async def _give_up(self, tenant: str, batch_id: str, reason: ApiError) -> None:
        with suppress(ApiError):
            batch = await self.find(tenant, batch_id)
            fault = {"code": "invalid_file", "message": str(reason), "param": "input_file_id", "line": None}
            await self._save(batch.moved("failed", errors=(fault,)))
        await self._store.unfinished.remove(tenant, batch_id)

    async def _save(self, batch: Batch, created: float = 0) -> None:
        """Keep a batch; its place in the list is that of the first call."""
        await self._store.batches.save(batch.tenant, batch.id, batch.model_dump_json(), LIFETIME_SECONDS, created)


@asynccontextmanager
async def working(batches: Batches) -> AsyncIterator[None]:
    """Work on batches while the block runs."""
    task = asyncio.create_task(batches.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
