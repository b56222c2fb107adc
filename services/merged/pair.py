"""The two engines of a merged model, which are loaded together and serve apart."""

import asyncio
from pkgutil import resolve_name
from typing import Any

from gsi.engines.base import LanguageEngine, RewardEngine
from gsi.engines.model_path import refuse_missing_folder
from gsi.errors import MisconfiguredError
from gsi.rpc.service_process import engine_settings
from services.prm.settings import PrmSettings
from services.target.settings import TargetSettings

LOAD = "gsi.engines.on_transformers.two_heads:load_two_heads"  # importing it takes seconds, in which health is asked


class MergedPair:
    """A target and its PRM. Whichever service asks first, both are loaded, once."""

    def __init__(self, target: TargetSettings, prm: PrmSettings) -> None:
        self._target = target
        self._prm = prm
        self._loading: asyncio.Task[tuple[LanguageEngine, RewardEngine]] | None = None

    async def load_target(self) -> LanguageEngine:
        """Return the target. Raises MisconfiguredError if the two cannot be loaded as one model."""
        return (await self._load_once())[0]

    async def load_prm(self) -> RewardEngine:
        """Return the PRM. Raises MisconfiguredError if the two cannot be loaded as one model."""
        return (await self._load_once())[1]

    async def _load_once(self) -> tuple[LanguageEngine, RewardEngine]:
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        return await asyncio.shield(self._loading)

    async def _load(self) -> tuple[LanguageEngine, RewardEngine]:
        self._refuse_what_has_no_effect()
        for settings in (self._target, self._prm):
            refuse_missing_folder(settings.model)
        load: Any = await asyncio.to_thread(resolve_name, LOAD)
        pair: tuple[LanguageEngine, RewardEngine] = await load(
            engine_settings("target", self._target), engine_settings("prm", self._prm)
        )
        return pair

    def _refuse_what_has_no_effect(self) -> None:
        """Raise MisconfiguredError for an engine without a pass for two heads, and for a second address of metrics."""
        for settings in (self._target, self._prm):
            if settings.engine != "transformers":
                raise MisconfiguredError(
                    f"{settings.variable('engine')}: {settings.engine} cannot serve two heads from one pass; allowed: "
                    "transformers; or services.target and services.prm, which serve the merged checkpoints apart"
                )
        if "metrics_listen" in self._prm.model_fields_set:
            raise MisconfiguredError(
                f"{self._prm.variable('metrics_listen')}: the process has one address for metrics; "
                f"allowed: {self._target.variable('metrics_listen')} alone"
            )
