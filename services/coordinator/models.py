"""The three services as the coordinator sees them: do they fit together, and is each there?"""

import asyncio
import contextvars
import json
import operator
from contextlib import suppress
from typing import Any

import structlog
from tenacity import AsyncRetrying, retry_if_result, wait_fixed

from gsi.algorithm.ports import Ports
from gsi.errors import MisconfiguredError, RetryableError
from gsi.model_info import ModelInfo
from gsi.rpc.clients import DraftClient, PrmClient, ServiceClient, TargetClient
from services.coordinator import metrics
from services.coordinator.compatibility import Limits, common_limits
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.step_limit import StepLimit

log = structlog.get_logger()

POLL_SECONDS = 0.25
MISFIT_SECONDS = 10.0  # between complaints
# How many replicas are asked before another model is taken for the service's new one. A call that met a stranger, the
# question whether the service serves and these make a prime: the call's next turn is not that stranger's again.
NUM_ASKED = 9
LOOK_SECONDS = 2.0


class Models:
    """Clients of draft, target and PRM. ``limits`` is what all of them allow, once they are connected."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        files = settings.certificate_files()
        self.draft = DraftClient(settings.draft, settings.draft_timeout_seconds, files)
        self.target = TargetClient(settings.target, settings.target_timeout_seconds, files)
        self.prm = PrmClient(settings.prm, settings.prm_timeout_seconds, files)
        self.ports = Ports(self.draft, self.target, self.prm)
        self.limits = Limits(0, frozenset(), None)
        self.description = ""  # JSON: by role, what a result says of the models that made it
        self.step_limit = StepLimit(settings.max_jobs)
        self._is_connected = False
        self._waits: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def _clients(self) -> tuple[ServiceClient, ...]:
        return (self.draft, self.target, self.prm)

    async def connect(self) -> None:
        """Wait until every service serves. Raises MisconfiguredError if draft and target do not fit together."""
        self._looking = asyncio.create_task(self._look())
        while not self._is_connected:
            await asyncio.gather(*(self.wait_until_serving(client.role) for client in self._clients))
            with suppress(RetryableError):  # one went away again
                await self._check()
                self._is_connected = True

    async def close(self) -> None:
        for wait in (*self._waits.values(), *([self._looking] if self._looking else [])):
            wait.cancel()
        await asyncio.gather(*(client.close() for client in self._clients))

    async def wait_until_serving(self, role: str) -> None:
        """Return when the service serves; however many jobs wait for it, it is asked and logged once."""
        if role not in self._waits:
            client = next(client for client in self._clients if client.role == role)
            nobody = contextvars.Context()  # its log lines are of no job, though one makes it ask
            self._waits[role] = asyncio.create_task(self._poll(client), context=nobody)
            self._waits[role].add_done_callback(lambda _: self._waits.pop(role))
        await asyncio.shield(self._waits[role])

    async def _poll(self, client: ServiceClient) -> None:
        if await self._is_usable(client):
            return
        where = {"service": client.role, "address": client.address, "reason": client.why_not_serving}
        if self._is_connected:
            log.warning("service is not serving; jobs wait for it", **where)
        else:
            log.info("waiting for service", **where)
        await AsyncRetrying(retry=retry_if_result(operator.not_), wait=wait_fixed(POLL_SECONDS))(
            self._is_usable, client
        )
        log.info("service is serving", service=client.role, address=client.address)

    async def _is_usable(self, client: ServiceClient) -> bool:
        """Return whether the service serves and, once we are connected, still fits: it may have changed its model."""
        if not await client.is_serving():
            return False
        try:
            if self._is_connected and not await self._has_its_model(client):
                await self._check()
        except RetryableError:
            return False
        except MisconfiguredError as error:
            log.error("service came back with another model; jobs wait for one that fits", reason=str(error))
            await asyncio.sleep(MISFIT_SECONDS)
            return False
        return True

    async def _has_its_model(self, client: ServiceClient) -> bool:
        """Return whether any replica still has the model that we work with; they take turns at being asked."""
        return client.model in await asyncio.gather(*(client.model_info() for _ in range(NUM_ASKED)))

    async def _look(self) -> None:
        """Show which services serve, while nobody waits for them, too."""
        while True:
            for client in self._clients:
                metrics.SERVICE_SERVING.labels(client.role).set(await client.is_serving())
            await asyncio.sleep(LOOK_SECONDS)

    async def _check(self) -> None:
        draft, target, prm = await asyncio.gather(
            self.draft.model_info(), self.target.model_info(), self.prm.model_info()
        )
        self.limits = common_limits(draft, target, prm)
        infos = {"draft": draft, "target": target, "prm": prm}
        for client in self._clients:
            client.model = infos[client.role]
        metrics.MODELS_INFO.tell(draft=draft.model, target=target.model, prm=prm.model)
        self.description = json.dumps({role: _described(info) for role, info in infos.items()})
        if set(draft.eos_token_ids) != set(target.eos_token_ids):
            log.warning("draft and target end differently", draft=draft.eos_token_ids, target=target.eos_token_ids)
        log.info("models", draft=draft.model, target=target.model, prm=prm.model, max_length=self.limits.max_length)


def _described(info: ModelInfo) -> dict[str, Any]:
    names = ("model", "revision", "engine", "engine_version", "num_parameters", "num_speculative_tokens")
    return {name: getattr(info, name) for name in names}
