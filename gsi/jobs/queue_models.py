"""The models that a queue's jobs are served with: one draft, one target, one PRM.

Two systems on one queue would run each other's jobs, and a job that resumes would continue the tokens of another
vocabulary. So the first coordinator of a queue notes its models in the queue's config, and a coordinator with others
does not take jobs. Decision 0043.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from redis.asyncio import Redis

from gsi.jobs.errors import OtherModelsError
from gsi.jobs.keys import Keys
from gsi.jobs.scripts import calls
from gsi.model_info import ModelInfo

MODELS_FIELD = "models"  # of the queue's config
NAMES = ("model", "revision", "checkpoint_fingerprint")

Trio: TypeAlias = Mapping[str, Mapping[str, str]]  # by role: what tells a model from others


class QueueModels:
    """The models of one queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py's stubs type every answer as a union
        self._keys = keys

    async def read(self) -> Trio | None:
        """Return the models of the queue; None: no coordinator has served it yet."""
        noted: Trio | None = json.loads(await self._read_text() or "null")
        return noted

    async def claim(self, served: Mapping[str, ModelInfo], before: Trio | None = None, *, adopts: bool = False) -> Trio:
        """Note the models that a coordinator serves, by role, unless the queue has others; return what is noted now.

        ``before``: what this coordinator was told last. Its services may have come back with other models since, which
        replace those. ``adopts``: whatever the queue has is replaced. Raises OtherModelsError if the queue has others.
        """
        ours: Trio = {role: {name: getattr(info, name) for name in NAMES} for role, info in served.items()}
        while True:
            text = await self._read_text()
            noted: Trio = json.loads(text) if text else {}
            wrong = [] if adopts else [role for role in noted if not _may_have(role, ours, noted, before or {})]
            if wrong:
                others = [f"{role}: {_show(noted[role])}, not {_show(ours[role])}" for role in wrong]
                raise OtherModelsError(f"queue {self._keys.queue} has other models: {'; '.join(others)}")
            claimed = {role: noted[role] if _is_same(noted.get(role, {}), ours[role]) else ours[role] for role in ours}
            if claimed == noted or await calls.claim_models(
                self._redis, config=self._keys.config, noted=text, models=json.dumps(claimed)
            ):
                return claimed

    async def forget(self, *, force: bool = False) -> int:
        """Forget the models, so that the next coordinator notes its own. Return how many jobs are unfinished.

        Unless ``force``, the models stay if there are unfinished jobs: their kept steps are tokens of these models.
        """
        num_unfinished = await self._count_unfinished()
        if force or not num_unfinished:
            await self._redis.hdel(self._keys.config, MODELS_FIELD)
        return num_unfinished

    async def _read_text(self) -> str:
        written: bytes | None = await self._redis.hget(self._keys.config, MODELS_FIELD)
        return "" if written is None else written.decode()

    async def _count_unfinished(self) -> int:
        tenants = await self._redis.smembers(self._keys.parked_tenants)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for lane in self._keys.lanes:
                pipeline.xlen(lane)
            pipeline.zcard(self._keys.delayed)
            for tenant in tenants:
                pipeline.llen(self._keys.parked(tenant.decode()))
            return sum(await pipeline.execute())


def _may_have(role: str, ours: Trio, noted: Trio, before: Trio) -> bool:
    """Return whether a role's model of the queue is ours, or the one that ours replaces."""
    return _is_same(noted[role], ours[role]) or noted[role] == before.get(role)


def _is_same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether two descriptions are of one model: by its files where both know them, or else by its name.

    A model that is served from another folder is the same.
    """
    name = "checkpoint_fingerprint"
    if one.get(name) and other.get(name):
        return one[name] == other[name]
    return all(one.get(each) == other.get(each) for each in ("model", "revision"))


def _show(model: Mapping[str, str]) -> str:
    details = [model.get("revision", ""), model.get("checkpoint_fingerprint", "")[:12]]
    shown = ", ".join(each for each in details if each)
    return f"{model.get('model', 'none')}{f' ({shown})' if shown else ''}"
