"""How a Lua file becomes a typed Python function."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, update_wrapper
from hashlib import sha1
from importlib.resources import files
from typing import Any, Generic, ParamSpec, TypeVar, get_args, get_type_hints

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from gsi.jobs.keys import Key
from gsi.jobs.state import TRANSITIONS

P = ParamSpec("P")
T = TypeVar("T")

FOLDER = files("gsi.jobs.scripts")
SOURCES: dict[str, str] = {}  # by script, what the server runs
SHARED = re.compile(r"^-- shared: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ScriptCall(Generic[T]):
    """A call of a script with its keys and arguments, which nobody has sent yet."""

    name: str
    keys: Sequence[Any]
    arguments: Sequence[Any]
    decode: Callable[[Any], T]

    async def send(self, redis: Redis) -> T:
        """Run the script. Raises ResponseError for what the server refuses."""
        server: Any = redis  # redis-py's stubs type every answer as a union
        source = SOURCES[self.name]
        digest = digest_of(source)
        try:
            answer = await server.evalsha(digest, len(self.keys), *self.keys, *self.arguments)
        except NoScriptError:  # the server is new, or was restarted
            await server.script_load(source)
            answer = await server.evalsha(digest, len(self.keys), *self.keys, *self.arguments)
        return self.decode(answer)


class Script(Generic[P, T]):
    """A script as a function. ``bind`` takes the same values, for a call that is sent later, with others."""

    def __init__(self, declare: Callable[P, None], decode: Callable[[Any], T]) -> None:
        update_wrapper(self, declare)
        self._name = declare.__name__
        self._decode = decode
        self._keys, self._arguments = parameters_of(declare)
        self._defaults: Mapping[str, Any] = declare.__kwdefaults__ or {}

    def __call__(self, redis: Redis, /, *_: P.args, **given: P.kwargs) -> Awaitable[T]:
        return self.bind(*_, **given).send(redis)

    def bind(self, *_: P.args, **given: P.kwargs) -> ScriptCall[T]:
        """Return the call with these values. Raises TypeError that names what is missing or unknown."""
        values: dict[str, Any] = {**self._defaults, **given}
        if values.keys() != {*self._keys, *self._arguments}:
            wrong = sorted(values.keys() ^ {*self._keys, *self._arguments})
            raise TypeError(f"{self._name}: missing or unknown: {wrong}")
        keys = [word for name in self._keys for word in _spread(values[name])]
        arguments = [word for name in self._arguments for word in _spread(values[name])]
        return ScriptCall(self._name, keys, arguments, self._decode)


def lua_script(decode: Callable[[Any], T]) -> Callable[[Callable[P, None]], Script[P, T]]:
    """Make a function that runs the Lua file of its name.

    The function's keyword parameters declare the script's keys (of type ``Key``) and arguments, in the order in which
    the file names them. A sequence or a mapping comes last and takes as many places as it needs. ``decode`` makes the
    function's result of the script's answer.
    """

    def bind(declare: Callable[P, None]) -> Script[P, T]:
        SOURCES[declare.__name__] = read_script(declare.__name__)
        return Script(declare, decode)

    return bind


async def send_together(redis: Redis, calls: Sequence[ScriptCall[T]]) -> list[T | ResponseError]:
    """Run scripts in the order given, in one round trip; return the answer of each, or the error that it met.

    The scripts are sent with their calls: a server that was restarted knows none of them.
    """
    names = {call.name for call in calls}
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.script_load(SOURCES[name])
        for call in calls:
            pipeline.evalsha(digest_of(SOURCES[call.name]), len(call.keys), *call.keys, *call.arguments)
        answers = (await pipeline.execute(raise_on_error=False))[len(names) :]
    return [
        answer if isinstance(answer, ResponseError) else call.decode(answer)
        for call, answer in zip(calls, answers, strict=True)
    ]


@cache
def digest_of(source: str) -> str:
    """Return what a server knows a script by."""
    return sha1(source.encode()).hexdigest()


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
