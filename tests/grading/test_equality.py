"""Asking a child process whether answers are equal, and grouping answers."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gsi.grading import equality
from gsi.grading.equality import EqualityChecker
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
