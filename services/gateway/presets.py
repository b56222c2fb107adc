"""The models that clients may name: a name stands for a queue and parameters of its jobs."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.jobs.job import parse_payload
from gsi.jobs.keys import QUEUE_PATTERN

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,99}$"


class Preset(BaseModel):
    """What a model's name stands for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: str = Field(pattern=QUEUE_PATTERN)
    params: Mapping[str, Any] = Field(default_factory=dict)
    description: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: Mapping[str, Mapping[str, Any]] = Field(min_length=1)


BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "gsi": {"params": {"method": "gsi"}, "description": "Guided speculative inference"},
    "gsi:no-rejection": {"params": {"method": "gsi-no-rejection"}, "description": "The same without a test"},
    "gsi:rsd": {"params": {"method": "rsd"}, "description": "Reward-guided speculative decoding"},
    "gsi:best-of-n": {"params": {"method": "best-of-n"}, "description": "The best of n candidates of each step"},
    "gsi:majority-vote": {"params": {"method": "majority-vote"}, "description": "The answer that most responses give"},
    "gsi:target": {"params": {"method": "target"}, "description": "The target alone"},
    "gsi:draft": {"params": {"method": "draft"}, "description": "The draft alone"},
}


def load_presets(path: Path | None, queue: str) -> dict[str, Preset]:
    """Read the presets of a TOML file, or return the built-in ones; ``queue`` is that of presets which name none.

    Raises MisconfiguredError that names the file and the preset at fault.
    """
    try:
        models = _File.model_validate(tomllib.loads(path.read_text("utf-8"))).models if path else BUILT_IN
    except (OSError, ValueError) as error:  # tomllib's error and pydantic's are ValueErrors
        raise MisconfiguredError(f"presets {path}: {_first(error)}") from None
    return {name: _check(path, name, {"queue": queue, **given}) for name, given in models.items()}


def _check(path: Path | None, name: str, given: Mapping[str, Any]) -> Preset:
    try:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(f"a name must match {NAME_PATTERN}")
        preset = Preset.model_validate(given)
        parse_payload({"prompt": "-", "params": dict(preset.params)})
    except (InvalidRequestError, ValueError) as error:
        raise MisconfiguredError(f"presets {path}, models.{name}: {_first(error)}") from None
    return preset


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
