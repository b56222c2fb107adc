"""The Lua files: keys and arguments have the names and order of their Python functions, and no file names a state."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gsi.jobs.connection import Redis
from gsi.jobs.keys import Key, Keys
from gsi.jobs.scripts import calls
from gsi.jobs.scripts.loader import (
    SOURCES,
    digest_of,
    lua_script,
    moves_of,
    parameters_of,
    read_script,
    send_together,
)
from gsi.jobs.state import TRANSITIONS, JobState

ROOT = Path(__file__).parents[2]
FOLDER = files("gsi.jobs.scripts")
SCRIPTS = {path.name.removesuffix(".lua"): path.read_text() for path in FOLDER.iterdir() if path.name.endswith(".lua")}
SHARED = {path.name.removesuffix(".lua"): path.read_text() for path in FOLDER.joinpath("shared").iterdir()}
FUNCTIONS: dict[str, Any] = {
    name: function for name, function in vars(calls).items() if hasattr(function, "__wrapped__")
}

OPENING = re.compile(r"^local ([\w, ]+) = (.+)$")
PLACE = re.compile(r"(?:tonumber\()?\{?(?:unpack\()?(KEYS|ARGV)(?:, |\[)(\d+)")


def openings(script: str) -> Iterator[tuple[str, str, int]]:
    """Yield name, table and place of each local that a script opens with, up to the first empty line behind them."""
    body = re.sub(r"\A(--.*\n)+\n", "", SCRIPTS[script])
    for line in body.split("\n\n")[0].splitlines():
        found = OPENING.match(line)
        assert found, f"{script}.lua: {line} is none of the opening locals"
        names, places = found[1].split(", "), PLACE.findall(found[2])
        assert len(names) == len(places), f"{script}.lua: {line}"
        yield from ((name, table, int(place)) for name, (table, place) in zip(names, places, strict=True))


def test_every_script_has_a_function() -> None:
    """And every function its script, all of which are in the package."""
    assert FUNCTIONS.keys() == SCRIPTS.keys()


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_keys_and_arguments_are_those_of_the_function(script: str) -> None:
    """The same names in the same order, so that no value can get into another's place."""
    opened = list(openings(script))
    keys, arguments = (
        [(name, place) for name, table, place in opened if table == wanted] for wanted in ("KEYS", "ARGV")
    )
    assert ([name for name, _ in keys], [name for name, _ in arguments]) == parameters_of(FUNCTIONS[script])
    for given in (keys, arguments):
        assert [place for _, place in given] == list(range(1, len(given) + 1))


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_says_what_it_does_and_reads_its_keys_and_arguments_at_its_top(script: str) -> None:
    """Below the opening there are names only."""
    assert SCRIPTS[script].startswith("-- ")
    assert "Returns" in SCRIPTS[script].split("\n\n")[0]
    assert len(re.findall(r"KEYS|ARGV", SCRIPTS[script])) == len(list(openings(script)))


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_has_the_shared_functions_that_it_calls(script: str) -> None:
    """No other, and none that is defined behind its first use."""
    named = re.findall(r"^-- shared: (.+)$", SCRIPTS[script], re.MULTILINE)
    included = named[0].split(", ") if named else []
    text = SCRIPTS[script] + "".join(SHARED[name] for name in included)
    assert set(included) == {name for name in SHARED if re.search(rf"(?<!function ){name}\(", text)}
    whole = read_script(script)
    for name in included:
        assert whole.index(f"local function {name}(") == whole.index(f"{name}(") - len("local function ")


def test_no_script_names_a_state() -> None:
    """States reach a script as arguments."""
    for text in (*SCRIPTS.values(), *SHARED.values()):
        assert [state for state in JobState if state in text] == []


def test_the_table_decides_which_moves_a_script_makes() -> None:
    """Each script in the table gets its own rows, and every script that moves a job is in the table."""
    moves = {name: inspect.signature(function).parameters.get("moves") for name, function in FUNCTIONS.items()}
    assert {name: each.default for name, each in moves.items() if each} == {
        name: moves_of(name) for name in TRANSITIONS
    }
    assert {name for name, text in SCRIPTS.items() if "may_move(" in text} == TRANSITIONS.keys()
    writers = {name for name, text in SCRIPTS.items() if re.search(r"'state', \w|finish\(", text)}
    assert writers <= TRANSITIONS.keys()


def test_no_caller_passes_what_the_declaration_decides() -> None:
    """States, moves and constants are the declaration's; of the states only a commit's ending is the caller's."""
    passed = [
        (called[1], keyword.arg)
        for path in (ROOT / "gsi").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and (called := re.fullmatch(r"calls\.(\w+)(\.bind)?", ast.unparse(node.func)))
        for keyword in node.keywords
    ]
    assert {script for script, _ in passed} == FUNCTIONS.keys()
    for script, name in passed:
        assert name is not None
        assert inspect.signature(FUNCTIONS[script]).parameters[name].default is inspect.Parameter.empty


async def test_a_call_without_an_argument_or_with_an_unknown_one_sends_nothing(redis: Redis) -> None:
    """It is refused by name."""
    append_step: Any = calls.append_step
    with pytest.raises(TypeError, match=r"append_step: missing or unknown: \['step'\]"):
        await append_step(redis, record="r", steps="s", token=1, nonce="n", index=0, fields={})
    with pytest.raises(TypeError, match=r"append_step: missing or unknown: \['stepp'\]"):
        await append_step(redis, record="r", steps="s", token=1, nonce="n", index=0, step="{}", stepp="{}", fields={})


def test_a_function_without_a_script_is_refused() -> None:
    """When it is declared."""

    def vanish(*, record: Key) -> None:
        """Do nothing."""

    with pytest.raises(FileNotFoundError):
        lua_script(bool)(vanish)


async def test_calls_that_are_sent_together_are_answered_one_by_one(redis: Redis, queue: str) -> None:
    """In order, also by a server that has forgotten its scripts; what one of them meets is that one's own."""
    server: Any = redis
    keys = Keys(queue)
    await server.set(keys.record("spoilt"), "no record")
    await server.script_flush()
    bound = [
        calls.append_step.bind(
            record=keys.record(job), steps=keys.steps(job), token=1, nonce="n", index=0, step="{}", fields={}
        )
        for job in ("unknown", "spoilt", "unknown")
    ]
    first, spoilt, last = await send_together(redis, bound)
    assert (first, last) == (False, False)  # nobody holds them
    assert isinstance(spoilt, ResponseError)
    assert str(spoilt).startswith("WRONGTYPE")


async def test_a_server_that_has_forgotten_its_scripts_is_given_the_one_that_is_called(
    redis: Redis, queue: str
) -> None:
    """Once; the next call sends its digest alone."""
    server: Any = redis
    keys = Keys(queue)
    await server.script_flush()
    for known_before in (False, True):
        assert await server.script_exists(digest_of(SOURCES["find_due"])) == [known_before]
        assert await calls.find_due(redis, delayed=keys.delayed, limit=1) == []
