"""Choices with numbers, as JSON: ``{"name": "binary", "delta": 0.7}``.

The choices are dataclasses in a registry of ``gsi.algorithm``. The registry makes the fields here, so a new class there
needs no edit here.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from gsi.errors import InvalidRequestError
from gsi.jobs.method_spec import parse_choice
from gsi.limits import MAX_SHORTHAND_CHARACTERS

T = TypeVar("T")


class Choice(BaseModel):
    """A choice: its name, and its numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: str

    @property
    def numbers(self) -> dict[str, float]:
        return {name: value for name, value in self.model_dump().items() if name != "name"}


def build_choice(registry: Mapping[str, type[T]], chosen: Choice) -> T:
    """Return the algorithm's object for a choice. Raises ValueError for numbers that it does not allow."""
    kind: Any = registry[chosen.name]  # mypy takes no class for hashable
    built: T = _build(kind, chosen)
    return built


@lru_cache(maxsize=256)  # jobs make the same choices again and again
def _build(kind: Any, chosen: Choice) -> Any:
    return kind(**chosen.numbers)


def choice_type(what: str, registry: Mapping[str, type[Any]]) -> Any:
    """Return the type of the field ``params.what``, which chooses from ``registry``: an object, or its shorthand."""

    def expand(value: Any) -> Any:
        return parse_choice(what, registry, value) if isinstance(value, str) else value

    models = [_make_model(f"params.{what}", name, kind) for name, kind in registry.items()]
    return Annotated[reduce(or_, models), Field(discriminator="name"), BeforeValidator(expand)]


def add_text(pattern: str) -> Any:
    """Return a function that lets a field's JSON Schema also allow text of this pattern."""

    def add(schema: dict[str, Any]) -> None:
        about: dict[str, Any] = {
            name: schema.pop(name) for name in ("default", "description", "title") if name in schema
        }
        long = schema.pop("anyOf", None) or [dict(schema)]
        schema.clear()
        short = {"type": "string", "pattern": pattern, "maxLength": MAX_SHORTHAND_CHARACTERS}
        schema.update({"anyOf": [*long, short], **about})

    return add


def add_shorthand(registry: Mapping[str, Any]) -> Any:
    """Return a function that lets a field's JSON Schema also allow the shorthand of its choices."""
    return add_text(rf"^({'|'.join(registry)})(=[^/]+(/[^/]+)*)?$")


def _make_model(what: str, name: str, kind: type[Any]) -> type[Choice]:
    def check(self: Choice) -> Choice:
        try:
            build_choice({self.name: kind}, self)
        except ValueError as error:
            raise InvalidRequestError(f"{what}: {error}") from None
        return self

    numbers: dict[str, Any] = {field.name: (float, field.default) for field in fields(kind)}
    chosen: Any = Literal[name]
    made: type[Choice] = create_model(
        kind.__name__,
        __base__=Choice,
        __doc__=(kind.__doc__ or "").partition("\n")[0],
        __validators__={"check": model_validator(mode="after")(check)},  # type: ignore[dict-item]
        name=(chosen, ...),
        **numbers,
    )
    return made
