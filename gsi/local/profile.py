"""Profiles: trios of models by name, with what their engines need. ``gsi up --profile`` and the chart use the same."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from gsi.errors import MisconfiguredError

FOLDER = Path(__file__).parent / "profiles"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@dataclass(frozen=True, slots=True)
class ProfileModel:
    """A model of a profile.

    ``name``: on the Hugging Face Hub. ``revision``: the commit of the checkpoint; None: the main branch as it is at the
    download. ``engine_args``: vLLM's, and what is added to them if the model shares a GPU.
    """

    name: str
    revision: str | None
    engine_args: tuple[str, ...]
    engine_args_on_a_shared_gpu: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A trio of models. ``models``: by role. ``sampling``: settings of draft and target, by the setting's name."""

    name: str
    summary: str
    models: Mapping[str, ProfileModel]
    sampling: Mapping[str, str]


def load_profile(name: str) -> Profile:
    """Return the profile of a name. Raises MisconfiguredError that names the profiles there are."""
    if name not in NAMES:
        close = get_close_matches(name, NAMES, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise MisconfiguredError(f"--profile: there is no profile {name}; {meant}allowed: {', '.join(NAMES)}")
    read = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    models = {
        role: ProfileModel(
            name=read[role]["model"],
            revision=read[role].get("revision"),
            engine_args=tuple(read[role]["engine_args"]),
            engine_args_on_a_shared_gpu=tuple(read[role].get("engine_args_on_a_shared_gpu", ())),
        )
        for role in ("draft", "target", "prm")
    }
    return Profile(name, read["summary"], models, {key: str(value) for key, value in read["sampling"].items()})
