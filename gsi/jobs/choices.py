"""Choices of a job that have numbers of their own, as JSON: ``{"name": "binary", "delta": 0.7}``.

The choices are dataclasses in a registry of ``gsi.algorithm``; a field here is made from the registry, so a new class
there needs nothing here.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from gsi.errors import InvalidRequestError
from gsi.jobs.method_spec import parse_choice


class Named(BaseModel):
    """One choice: its name, and its numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: str

    @property
    def numbers(self) -> dict[str, float]:
        return {name: value for name, value in self.model_dump().items() if name != "name"}


def named(what: str, registry: Mapping[str, type[Any]]) -> Any:
    """Return the type of ``params.what``, which chooses from ``registry``: an object, or its shorthand."""

    def written_out(value: Any) -> Any:
        return parse_choice(what, registry, value) if isinstance(value, str) else value

    models = [_model(f"params.{what}", name, kind) for name, kind in registry.items()]
    return Annotated[reduce(or_, models), Field(discriminator="name"), BeforeValidator(written_out)]


def or_text(pattern: str) -> Any:
    """Return what adds to a field's JSON Schema that it may be text of this pattern, too."""

    def add(schema: dict[str, Any]) -> None:
        about: dict[str, Any] = {
            name: schema.pop(name) for name in ("default", "description", "title") if name in schema
        }
        long = schema.pop("anyOf", None) or [dict(schema)]
        schema.clear()
        schema.update({"anyOf": [*long, {"type": "string", "pattern": pattern}], **about})

    return add


def or_short(registry: Mapping[str, Any]) -> Any:
    """Return what adds the shorthand of a choice to its JSON Schema."""
    return or_text(rf"^({'|'.join(registry)})(=[^/]+(/[^/]+)*)?$")


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
