"""Engines by name. A runtime is imported when its engine is loaded, never before."""

import asyncio
import gc
from typing import Any

from gsi.engines.base import EngineSettings, Follower, LanguageEngine, RewardEngine
from gsi.engines.on_vllm.environment import prepare_import
from gsi.errors import MisconfiguredError

ENGINES = ("transformers", "vllm")


async def load_language_engine(name: str, settings: EngineSettings) -> LanguageEngine:
    """Load a draft or target model, which may take minutes. Raises ValueError for an unknown name."""
    kind = await asyncio.to_thread(_imported, name, _language_kind)  # seconds, in which others may ask for our health
    engine: LanguageEngine = await kind.load(settings)
    return engine


async def load_reward_engine(name: str, settings: EngineSettings) -> RewardEngine:
    """Load a reward model, which may take minutes. Raises ValueError for an unknown name."""
    kind = await asyncio.to_thread(_imported, name, _reward_kind)
    engine: RewardEngine = await kind.load(settings)
    return engine


async def follow_language_engine(name: str, settings: EngineSettings) -> Follower:
    """Start a node of a draft or target model that does not serve. Raises ValueError for an unknown name."""
    kind = await asyncio.to_thread(_imported, name, _language_kind)
    follower: Follower = await kind.follow(settings)
    return follower


async def follow_reward_engine(name: str, settings: EngineSettings) -> Follower:
    """Start a node of a reward model that does not serve. Raises ValueError for an unknown name."""
    kind = await asyncio.to_thread(_imported, name, _reward_kind)
    follower: Follower = await kind.follow(settings)
    return follower


def _imported(name: str, kind_of: Any) -> Any:
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}; allowed: {', '.join(ENGINES)}")
    gc.disable()  # the import makes a million objects that stay; walking them again and again is a fifth of its time
    try:
        return kind_of(name)
    except ModuleNotFoundError as error:
        raise MisconfiguredError(
            f"engine {name} is not installed ({error}): pip install 'gsi-serve[{name}]'"
        ) from error
    finally:
        gc.enable()


def _language_kind(name: str) -> Any:
    if name == "vllm":
        prepare_import()
        from gsi.engines.on_vllm.language import VllmEngine

        return VllmEngine
    from gsi.engines.on_transformers.language import TransformersEngine

    return TransformersEngine


def _reward_kind(name: str) -> Any:
    if name == "vllm":
        prepare_import()
        from gsi.engines.on_vllm.reward import VllmRewardEngine

        return VllmRewardEngine
    from gsi.engines.on_transformers.reward import TransformersRewardEngine

    return TransformersRewardEngine
