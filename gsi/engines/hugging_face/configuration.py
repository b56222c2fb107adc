"""A checkpoint's small files, for an engine that has no weights: what ends a sequence, and the model's size."""

import json
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import cached_file

from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.errors import MisconfiguredError

# Both need torch, which an engine without weights can do without.
COUNT = "gsi.engines.hugging_face.parameter_count:count_parameters_without_weights"
MAKE_REWARD_MODEL = "gsi.engines.on_transformers.reward_checkpoint:make_reward_model"


def read_eos_token_ids(settings: EngineSettings, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids that end a sequence. Raises MisconfiguredError if no file of the checkpoint names one."""
    for name in ("generation_config.json", "config.json"):
        found = read_json(settings, name).get("eos_token_id")
        if found is not None:
            return tuple(found) if isinstance(found, list) else (found,)
    if tokenizer.end_token_id is None:
        raise MisconfiguredError(f"model: {settings.model} names no eos_token_id; allowed: a checkpoint that does")
    return (tokenizer.end_token_id,)


def count_by_configuration(settings: EngineSettings, reward_architecture: str | None) -> int | None:
    """Return the size of a model by its configuration; None if that, its class, or torch is not on this machine.

    ``reward_architecture``: that of a reward model; None for a language model.
    """
    if not read_json(settings, "config.json"):
        return None
    try:
        config = AutoConfig.from_pretrained(settings.model, revision=settings.revision)
        size: int | None = resolve_name(COUNT)(partial(_make_model, reward_architecture, config))
    except (ValueError, ImportError):
        return None
    return size


def read_json(settings: EngineSettings, name: str) -> dict[str, Any]:
    """Return a file of the checkpoint; empty if the checkpoint lacks it."""
    path = cached_file(
        settings.model,
        name,
        revision=settings.revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    found: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
    return found


def _make_model(reward_architecture: str | None, config: Any) -> Any:
    """Make an untrained model. Code from the checkpoint is not run."""
    if reward_architecture is None:
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return resolve_name(MAKE_REWARD_MODEL)(reward_architecture, config)
