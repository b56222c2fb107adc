"""The file of a router: ``gsi router train`` writes it, and a coordinator reads it (``GSI_COORDINATOR_ROUTER``).

It is JSON: the numbers of a ``LogisticRouter``, and the models by whose records they were learned. Nothing but the
standard library computes with it, so a coordinator needs no library of training.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gsi.algorithm.router import LogisticRouter
from gsi.errors import MisconfiguredError
from gsi.model_info import ModelInfo

ROUTER_FILE: Final = "router.json"
SHOWN_DIGITS = 12  # of a fingerprint


class RouterModel(BaseModel):
    """The model of one role, in whose records the router was learned; "" is unknown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    checkpoint_fingerprint: str = ""


class RouterFile(BaseModel):
    """A router, what it belongs to, and what is known of its quality."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    version: Literal[1] = 1
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    margin: float = Field(0.0, ge=0)  # by how much the target's reward must be higher, for its step to be better
    models: Mapping[str, RouterModel] = {}  # by role; empty: the router is for every trio
    data: Mapping[str, Any] = {}  # number of steps and problems, seeds, …: for people
    quality: Mapping[str, Any] = {}  # AUC, Brier score, calibration: for people
    fingerprint: str = Field("", exclude=True)  # SHA-256 of the file that was read, in hexadecimal; "": of no file

    def to_router(self) -> LogisticRouter:
        """Return what computes. Raises ValueError that names the field which is wrong."""
        return LogisticRouter(self.features, self.means, self.scales, self.weights, self.intercept)


def read_router(path: Path) -> RouterFile:
    """Read a router's file. Raises MisconfiguredError that names the file and what is wrong with it."""
    try:
        content = path.read_bytes()
        read = RouterFile.model_validate_json(content)
        read.to_router()
    except OSError as error:
        raise MisconfiguredError(f"router {path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise MisconfiguredError(
            f"router {path}: {field}: {first['msg']}; allowed: what gsi router train wrote"
        ) from None
    except ValueError as error:
        raise MisconfiguredError(f"router {path}: {error}") from None
    return read.model_copy(update={"fingerprint": hashlib.sha256(content).hexdigest()})


def find_misfit(router: RouterFile, models: Mapping[str, ModelInfo]) -> str | None:
    """Return which model the router was not learned for, in words; None if it is for these models.

    Files are compared by their fingerprints, and by the last part of their names where a service does not know them.
    """
    for role, known in router.models.items():
        has = models[role]
        one, other = known.checkpoint_fingerprint, has.checkpoint_fingerprint
        if one and other:
            if one != other:
                return f"its {role} is {known.model} ({one[:SHOWN_DIGITS]}), not {has.model} ({other[:SHOWN_DIGITS]})"
        elif PurePath(known.model).name != PurePath(has.model).name:
            return f"its {role} is {known.model}, not {has.model}"
    return None
