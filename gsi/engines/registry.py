"""Engines by name, a table for each kind of model. Loading an engine imports its runtime; nothing is imported before.

A new engine is a class in a folder of its runtime and a line in each table that it belongs to.
"""

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Generic

from gsi.engines.base import E, EngineSettings, Follower, LanguageEngine, RewardEngine
from gsi.engines.model_path import refuse_missing_folder
from gsi.errors import MisconfiguredError
from gsi.runtime.installation import how_to_install
from gsi.suggestions import list_names

PREPARATIONS = {"vllm": "gsi.engines.on_vllm.environment:prepare_import"}  # called before an engine's class is imported


@dataclass(frozen=True, slots=True)
class EngineTable(Generic[E]):
    """The engines of one kind of model: the name of each, and its class as ``module:class``."""

    classes: Mapping[str, str]

    async def load(self, name: str, settings: EngineSettings) -> E:
        """Load a model, which may take minutes.

        Raises ValueError for an unknown name, MisconfiguredError for a runtime that is not installed, and for a folder
        that is not there.
        """
        refuse_missing_folder(settings.model)
        with _no_garbage_collection():
            engine: E = await (await self._import(name)).load(settings)
        return engine

    async def follow(self, name: str, settings: EngineSettings) -> Follower:
        """Start a node that works for node 0 of the same engine. Raises what ``load`` raises."""
        refuse_missing_folder(settings.model)
        follower: Follower = await (await self._import(name)).follow(settings)
        return follower

    async def _import(self, name: str) -> Any:
        if name not in self.classes:
            raise ValueError(f"unknown engine {name!r}; allowed: {list_names(name, self.classes)}")
        if name in PREPARATIONS:
            resolve_name(PREPARATIONS[name])()
        try:  # in a thread: importing takes seconds, and the process must answer health checks meanwhile
            return await asyncio.to_thread(resolve_name, self.classes[name])
        except ModuleNotFoundError as error:
            raise MisconfiguredError(f"engine {name} is not installed ({error}): {how_to_install(name)}") from error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Look for no garbage meanwhile: what an import makes stays, and looking takes a seventh of a service's start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


LANGUAGE_ENGINES: EngineTable[LanguageEngine] = EngineTable(
    {
        "transformers": "gsi.engines.on_transformers.language:TransformersEngine",
        "vllm": "gsi.engines.on_vllm.language:VllmEngine",
        "remote": "gsi.engines.on_remote.language:RemoteEngine",
    }
)
REWARD_ENGINES: EngineTable[RewardEngine] = EngineTable(
    {
        "transformers": "gsi.engines.on_transformers.reward:TransformersRewardEngine",
        "vllm": "gsi.engines.on_vllm.reward:VllmRewardEngine",
        "remote": "gsi.engines.on_remote.reward:RemoteRewardEngine",
    }
)
