"""Engines by name. A runtime is imported when its engine is loaded, never before."""

from gsi.engines.base import EngineSettings, LanguageEngine, RewardEngine

ENGINES = ("transformers",)


def load_language_engine(name: str, settings: EngineSettings) -> LanguageEngine:
    """Load a draft or target model; blocks for as long as that takes. Raises ValueError for an unknown name."""
    if name == "transformers":
        from gsi.engines.transformers_engine import TransformersEngine

        return TransformersEngine(settings)
    raise unknown(name)


def load_reward_engine(name: str, settings: EngineSettings) -> RewardEngine:
    """Load a process reward model; blocks for as long as that takes. Raises ValueError for an unknown name."""
    if name == "transformers":
        from gsi.engines.transformers_reward import TransformersRewardEngine

        return TransformersRewardEngine(settings)
    raise unknown(name)


def unknown(name: str) -> ValueError:
    return ValueError(f"unknown engine {name!r}; allowed: {', '.join(ENGINES)}")
