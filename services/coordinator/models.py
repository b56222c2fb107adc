"""The coordinator's view of the three services: do they fit together, and does each serve?"""

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeAlias

import structlog

from gsi.algorithm.candidates import Source
from gsi.algorithm.lookahead import Lookahead
from gsi.algorithm.ports import Ports
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError
from gsi.jobs.errors import OtherModelsError
from gsi.model_info import ModelInfo
from gsi.rpc.clients import DraftClient, PrmClient, ServiceClient, TargetClient
from gsi.runtime.metrics import ROLES
from services.coordinator import metrics
from services.coordinator.background import BackgroundTasks, background_tasks
from services.coordinator.compatibility import Limits, common_limits
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.step_limit import StepLimit

log = structlog.get_logger()

POLL_SECONDS = 0.25
MISFIT_SECONDS = 10.0  # between two log lines about a model that does not fit
# How many times a service is asked for its model before the coordinator adopts a new one; replicas answer in turn. A
# call that met a foreign replica, the health check and these questions add up to a prime number of calls, so the
# call's next attempt reaches another replica.
NUM_ASKED = 9
WATCH_SECONDS = 2.0
OTHER_MODELS_SECONDS = 5.0  # between two looks whether the queue is this coordinator's by now
MOST_BUSY = 0.5  # share of the draft's calls at once up to which it may write ahead, which must not delay others

Guard: TypeAlias = Callable[[Mapping[str, ModelInfo]], Awaitable[None]]  # raises OtherModelsError or RetryableError


async def accept_all(_: Mapping[str, ModelInfo]) -> None:
    """Accept whatever models the services have."""


@asynccontextmanager
async def open_models(settings: CoordinatorSettings, guard: Guard = accept_all) -> AsyncIterator["Models"]:
    """Yield the three services, not yet connected; close their channels when the block ends.

    ``guard`` is asked before models are used, at the start and when a service comes back with another one.

    Raises MisconfiguredError if the certificates cannot be used, and BackgroundTaskError.
    """
    files = settings.certificate_files()
    note = {role: partial(metrics.observe_choice, role) if settings.affinity else None for role in ROLES}
    draft = DraftClient(settings.draft, settings.draft_timeout_seconds, files, note["draft"])
    target = TargetClient(settings.target, settings.target_timeout_seconds, files, note["target"])
    prm = PrmClient(settings.prm, settings.prm_timeout_seconds, files, note["prm"])
    try:
        async with background_tasks() as background:
            limit = StepLimit(settings.max_jobs)
            yield Models(draft, target, prm, limit, background, guard, looks_ahead=settings.lookahead)
    finally:
        await asyncio.gather(*(client.close() for client in (draft, target, prm)))


class Models:
    """Draft, target and PRM. ``limits`` is what all of them allow, once ``connect`` has returned."""

    def __init__(
        self,
        draft: DraftClient,
        target: TargetClient,
        prm: PrmClient,
        step_limit: StepLimit,
        background: BackgroundTasks,
        guard: Guard = accept_all,
        *,
        looks_ahead: bool = False,
    ) -> None:
        self.draft, self.target, self.prm = draft, target, prm
        self.ports = Ports(draft, target, prm, {Source.DRAFT: draft, Source.TARGET: target})
        self.step_limit = step_limit
        self.lookahead = Lookahead(self.has_room_ahead, metrics.observe_ahead) if looks_ahead else None
        self.limits = Limits(0, frozenset(), None)
        self.description = ""  # JSON: by role, what a result says of the models that made it
        self._clients: tuple[ServiceClient, ...] = (draft, target, prm)
        self._background = background
        self._guard = guard
        self._is_connected = False
        self._is_serving: dict[str, asyncio.Event] = {}  # by role, while that service is polled

    async def connect(self) -> None:
        """Wait until every service serves, and the queue may be served with their models.

        Raises MisconfiguredError if draft and target do not fit together.
        """
        self._background.start("service watcher", self._watch)
        is_logged = False
        while not self._is_connected:
            await asyncio.gather(*(self.wait_until_serving(client.role) for client in self._clients))
            try:
                await self._check()
                self._is_connected = True
            except OtherModelsError as error:
                if not is_logged:
                    log.error("no job is taken: the queue has other models", reason=str(error))
                is_logged = True
                await asyncio.sleep(OTHER_MODELS_SECONDS)
            except RetryableError:  # a service or Redis went away again
                await asyncio.sleep(POLL_SECONDS)

    @contextmanager
    def placing(self, job_id: str) -> Iterator[None]:
        """Keep a job's places on the replicas while this block runs."""
        try:
            yield
        finally:
            for client in self._clients:
                client.replicas.end(job_id)

    def has_room_ahead(self) -> bool:
        """Return whether the draft may write a step ahead: less than half of its calls are in use, and none is full."""
        return self.draft.busy_share < MOST_BUSY and self.step_limit.is_whole

    async def wait_until_serving(self, role: str) -> None:
        """Return when the service serves. However many jobs wait for it, one task polls it and logs the wait once."""
        if role not in self._is_serving:
            self._is_serving[role] = asyncio.Event()
            client = next(client for client in self._clients if client.role == role)
            no_job = contextvars.Context()  # the poll's log lines name no job, though a job caused it
            self._background.start(f"poll of {role}", partial(self._poll, client), may_return=True, context=no_job)
        await self._is_serving[role].wait()

    async def _poll(self, client: ServiceClient) -> None:
        """Ask until the service serves; then wake the jobs that wait for it."""
        is_logged = False
        while not await self._is_usable(client):
            if not is_logged:
                self._log_wait(client)
                is_logged = True
            await asyncio.sleep(POLL_SECONDS)
        if is_logged:
            log.info("service is serving", service=client.role, address=client.address)
        self._is_serving.pop(client.role).set()

    def _log_wait(self, client: ServiceClient) -> None:
        where = {"service": client.role, "address": client.address, "reason": client.why_not_serving}
        if self._is_connected:
            log.warning("service is not serving; jobs wait for it", **where)
        else:
            log.info("waiting for service", **where)

    async def _is_usable(self, client: ServiceClient) -> bool:
        """Return whether the service serves and, once connected, whether its model still fits: it may be a new one."""
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
        except (InternalError, InvalidRequestError) as error:  # the service's fault, which must not end this process
            log.error("service does not name its model; jobs wait for it", service=client.role, reason=str(error))
            await asyncio.sleep(MISFIT_SECONDS)
            return False
        return True

    async def _has_its_model(self, client: ServiceClient) -> bool:
        """Return whether any replica still has the model that this coordinator works with; replicas answer in turn."""
        return client.model in await asyncio.gather(*(client.model_info() for _ in range(NUM_ASKED)))

    async def _watch(self) -> None:
        """Show which services serve until cancelled, also while no job waits for a service."""
        while True:
            for client in self._clients:
                metrics.SERVICE_SERVING.labels(client.role).set(await client.is_serving())
            await asyncio.sleep(WATCH_SECONDS)

    async def _check(self) -> None:
        """Adopt the models that the services have now.

        Raises MisconfiguredError if they do not fit together, or if the queue has others.
        """
        draft, target, prm = await asyncio.gather(
            self.draft.model_info(), self.target.model_info(), self.prm.model_info()
        )
        limits = common_limits(draft, target, prm)
        infos = {"draft": draft, "target": target, "prm": prm}
        await self._guard(infos)
        self.limits = limits
        for client in self._clients:
            client.model = infos[client.role]
        metrics.MODELS_INFO.tell(draft=draft.model, target=target.model, prm=prm.model)
        self.description = json.dumps({role: _describe(info) for role, info in infos.items()})
        if set(draft.eos_token_ids) != set(target.eos_token_ids):
            log.warning("draft and target end differently", draft=draft.eos_token_ids, target=target.eos_token_ids)
        log.info("models", draft=draft.model, target=target.model, prm=prm.model, max_length=self.limits.max_length)


def _describe(info: ModelInfo) -> dict[str, Any]:
    names = (
        *("model", "revision", "engine", "engine_version", "dtype", "checkpoint_fingerprint"),
        *("num_parameters", "num_speculative_tokens", "reading"),
    )
    return {name: getattr(info, name) for name in names}
