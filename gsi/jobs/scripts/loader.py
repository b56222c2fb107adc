"""How a Lua file becomes a typed Python function."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import wraps
from importlib.resources import files
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args, get_type_hints

from redis.asyncio import Redis

from gsi.jobs.keys import Key
from gsi.jobs.state import TRANSITIONS

P = ParamSpec("P")
T = TypeVar("T")

FOLDER = files("gsi.jobs.scripts")
SOURCES: dict[str, str] = {}  # by script, what the server runs
SHARED = re.compile(r"^-- shared: (.+)$", re.MULTILINE)


def lua_script(
    decode: Callable[[Any], T],
) -> Callable[[Callable[P, None]], Callable[Concatenate[Redis, P], Awaitable[T]]]:
    """Make a function that runs the Lua file of its name.

    The function's keyword parameters declare the script's keys (of type ``Key``) and arguments, in the order in which
    the file names them. A sequence or a mapping comes last and takes as many places as it needs. ``decode`` makes the
    function's result of the script's answer.
    """

    def bind(declare: Callable[P, None]) -> Callable[Concatenate[Redis, P], Awaitable[T]]:
        SOURCES[declare.__name__] = read_script(declare.__name__)
        keys, arguments = parameters_of(declare)
        names, defaults = {*keys, *arguments}, declare.__kwdefaults__ or {}

        @wraps(declare)
        async def call(redis: Redis, /, *_: P.args, **given: P.kwargs) -> T:
            values: dict[str, Any] = {**defaults, **given}
            if values.keys() != names:
                raise TypeError(f"{declare.__name__}: missing or unknown: {sorted(values.keys() ^ names)}")
            script = redis.register_script(SOURCES[declare.__name__])
            return decode(
                await script(
                    keys=[word for name in keys for word in _spread(values[name])],
                    args=[word for name in arguments for word in _spread(values[name])],
                )
            )

        return call

    return bind


def read_script(name: str) -> str:
    """Return a script behind the shared functions that its line ``-- shared: …`` names."""
    script = FOLDER.joinpath(f"{name}.lua").read_text("utf-8")
    shared = SHARED.search(script)
    names = shared[1].split(", ") if shared else []
    return "\n".join([*(FOLDER.joinpath("shared", f"{each}.lua").read_text("utf-8") for each in names), script])


def parameters_of(declare: Callable[..., object]) -> tuple[list[str], list[str]]:
    """Return the names of a script's keys, and the names of its arguments."""
    hints = {name: hint for name, hint in get_type_hints(declare).items() if name != "return"}
    keys = [name for name, hint in hints.items() if Key in (hint, *get_args(hint))]
    return keys, [name for name in hints if name not in keys]


def moves_of(script: str) -> str:
    """Return a script's rows of the table of transitions, as ``may_move.lua`` reads them."""
    rows = TRANSITIONS[script].items()
    return " ".join(f"{before or ''}>{after or ''}" for before, all_after in rows for after in all_after)


def _spread(value: Any) -> Iterator[Any]:
    """Yield what a value is for a script: a word, each word of a sequence, or name, value, … of a mapping."""
    match value:
        case bool():
            yield int(value)
        case Mapping():
            yield from (word for pair in value.items() for word in pair)
        case Sequence() if not isinstance(value, str | bytes):
            yield from value
        case _:
            yield value
