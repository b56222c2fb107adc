"""Asking a child process whether answers are equal, and grouping answers."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.grading import equality
from gsi.grading.equality import EqualityChecker, grouped
from gsi.runtime.child import child_command

HANGS = "print('ready', flush=True); import time; time.sleep(600)"
CRASHES = "print('ready', flush=True); input()"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Return the commands of all children that checkers start from now on."""
    commands: list[Sequence[str]] = []

    def command_of(command: Sequence[str]) -> list[str]:
        commands.append(command)
        return child_command(command)

    monkeypatch.setattr(equality, "child_command", command_of)
    return commands


@pytest.fixture
async def checker() -> AsyncIterator[EqualityChecker]:
    async with EqualityChecker() as checker:
        yield checker


def replace_first_child(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let the first child be another program, and all after it the right one."""
    programs = [[sys.executable, "-c", program]]

    def command_of(command: Sequence[str]) -> list[str]:
        return child_command(programs.pop() if programs else command)

    monkeypatch.setattr(equality, "child_command", command_of)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_one_child_answers_all_questions(checker: EqualityChecker, started: list[Sequence[str]]) -> None:
    """Each question gets its own answer, also when many are asked at once."""
    answers = await asyncio.gather(*(checker.are_equal(f"{number}/2", "1.5") for number in range(6)))
    assert answers == [False, False, False, True, False, False]
    assert len(started) == 1


async def test_what_text_decides_reaches_no_child(checker: EqualityChecker, started: list[Sequence[str]]) -> None:
    """Equal notation, and answers too long to calculate with."""
    assert await checker.are_equal(r"\dfrac{1}{2}", r"\frac12")
    assert not await checker.are_equal("1+" * 1000 + "1", "1001")
    assert started == []


@pytest.mark.parametrize("program", [HANGS, CRASHES], ids=["hangs", "crashes"])
async def test_a_child_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Its question is answered by text; the next one is answered as ever."""
    replace_first_child(monkeypatch, program)
    async with EqualityChecker(question_seconds=2) as checker:
        assert not await checker.are_equal("1/2", "0.5")
        assert await checker.are_equal("1/2", "0.5")


async def test_a_question_that_nobody_waits_for_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its child is ended, so that its answer cannot become another question's."""
    replace_first_child(monkeypatch, HANGS)
    async with EqualityChecker() as checker:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(checker.are_equal("1/2", "0.6"), 1)
        assert await checker.are_equal("1/2", "0.5")


async def test_a_hostile_answer_is_equal_to_nothing(checker: EqualityChecker) -> None:
    """A number that no machine can hold takes seconds, and then other questions are answered."""
    assert not await checker.are_equal("9^{9^{9^{9}}}", "1+x")
    assert await checker.are_equal("1/2", "0.5")


async def test_the_child_ends_with_its_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits until it is gone."""
    processes = []
    start = asyncio.create_subprocess_exec

    async def remember(*args: str, **kwargs: Any) -> asyncio.subprocess.Process:
        processes.append(await start(*args, **kwargs))
        return processes[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", remember)
    async with EqualityChecker() as checker:
        await checker.are_equal("1/2", "0.5")
        assert is_alive(processes[0].pid)
    assert not is_alive(processes[0].pid)


async def equal_parity(expected: str, given: str) -> bool:
    return int(expected) % 2 == int(given) % 2


async def test_groups_are_numbered_as_they_appear() -> None:
    """No answer is in no group."""
    assert await grouped([None, "3", "4", "5", None, "8", "3"], equal_parity) == [-1, 0, 1, 0, -1, 1, 0]
    assert await grouped([], equal_parity) == []


async def test_what_is_written_alike_is_asked_about_once() -> None:
    """A vote of many asks as many questions as there are different answers, at most squared."""
    questions = []

    async def never(expected: str, given: str) -> bool:
        questions.append((expected, given))
        return False

    assert await grouped([r"\frac12", "2", r"\dfrac{1}{2}", "2", " 2"], never) == [0, 1, 0, 1, 1]
    assert questions == [(r"\frac12", "2")]


@given(st.lists(st.none() | st.integers(0, 9).map(str)))
def test_two_answers_share_a_group_if_they_are_equal(answers: list[str | None]) -> None:
    """And no number is left out: they are those of the parities in order of first appearance."""
    parities = [None if answer is None else int(answer) % 2 for answer in answers]
    numbers = list(dict.fromkeys(parity for parity in parities if parity is not None))
    wanted = [-1 if parity is None else numbers.index(parity) for parity in parities]
    assert asyncio.run(grouped(answers, equal_parity)) == wanted
