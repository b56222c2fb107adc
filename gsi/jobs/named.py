"""Choices of a job that have numbers of their own, as JSON: ``{"name": "binary", "delta": 0.7}``.

The choices are dataclasses in a registry of ``gsi.algorithm``; a field here is made from the registry, so a new class
there needs nothing here.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from gsi.errors import InvalidRequestError


class Named(BaseModel):
    """One choice: its name, and its numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: str

    @property
    def numbers(self) -> dict[str, float]:
        return {name: value for name, value in self.model_dump().items() if name != "name"}


def named(what: str, registry: Mapping[str, type[Any]]) -> Any:
    """Return the type of a field that chooses from ``registry``. Errors of a class's own check name ``what``."""
    models = [_model(what, name, kind) for name, kind in registry.items()]
    return Annotated[reduce(or_, models), Field(discriminator="name")]


def _model(what: str, name: str, kind: type[Any]) -> type[Named]:
    def check(self: Named) -> Named:
        try:
            kind(**self.numbers)
        except ValueError as error:
            raise InvalidRequestError(f"{what}: {error}") from None
        return self

    numbers: dict[str, Any] = {field.name: (float, field.default) for field in fields(kind)}
    chosen: Any = Literal[name]
    made: type[Named] = create_model(
        kind.__name__,
        __base__=Named,
        __doc__=(kind.__doc__ or "").partition("\n")[0],
        __validators__={"check": model_validator(mode="after")(check)},  # type: ignore[dict-item]
        name=(chosen, ...),
        **numbers,
    )
    return made
