"""Asking a child process whether answers are equal, and grouping answers."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gsi.grading import equality
from gsi.grading.equality import EqualityChecker
from gsi.limits import MAX_COMPARED_ANSWERS
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


# --- A vote -----------------------------------------------------------------------------------------------------------

# Answers each question at once, but for one with a bomb, for which it hangs, or one that is slow.
HANGS_FOR_A_BOMB = """
import sys, time
print("ready", flush=True)
for line in sys.stdin:
    time.sleep(600 if "bomb" in line else 1.1 if "slow" in line else 0)
    print("true", flush=True)
"""


@pytest.fixture
def bombed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every child be one that hangs for a bomb, and finds all other answers equal."""
    monkeypatch.setattr(equality, "child_command", lambda _: child_command([sys.executable, "-c", HANGS_FOR_A_BOMB]))


async def test_a_vote_compares_so_many_answers_and_takes_the_others_for_different(bombed: None) -> None:
    """All pairs of 256 answers would be 32,640 questions. What text decides is decided as ever."""
    async with EqualityChecker() as checker:
        vote = checker.start_vote()
        for number in range(1, MAX_COMPARED_ANSWERS):
            assert await vote.are_equal("x", f"x+{number}")
        assert not await vote.are_equal("x", "x+1000")
        assert await vote.are_equal("x+1", "x+2")
        assert await vote.are_equal("x + 1000", "x+1000")
        assert await checker.start_vote().are_equal("x", "x+1000")


async def test_a_vote_ends_after_its_time_in_the_middle_of_a_question(bombed: None) -> None:
    """It is decided by what is known, although each of its questions may take longer than all of it."""
    async with EqualityChecker(question_seconds=60) as checker:
        vote = checker.start_vote(seconds=1)
        assert await vote.are_equal("1", "2")
        assert not await vote.are_equal("1", "bomb")
        assert not await vote.are_equal("1", "3")  # undecided now
        assert await vote.are_equal("3.0", "3.0 ")
        assert await checker.start_vote().are_equal("1", "3")


async def test_only_questions_count_in_a_votes_time(bombed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vote that may end early votes again and again while responses are written, perhaps for minutes."""
    clock = 0.0
    monkeypatch.setattr(equality, "time", SimpleNamespace(monotonic=lambda: clock))
    async with EqualityChecker() as checker:
        vote = checker.start_vote(seconds=30)
        assert await vote.are_equal("1", "2")
        clock = 3600.0  # the next responses are written
        assert await vote.are_equal("1", "3")


async def test_a_vote_asks_of_a_pair_once(bombed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what no child answered stays as it was decided."""
    async with EqualityChecker(question_seconds=1) as checker:
        vote = checker.start_vote()
        found = [await vote.are_equal("1", other) for other in ("2", "bomb")]
        await checker.close()
        monkeypatch.setattr(equality, "child_command", lambda _: child_command(["/no/such/program"]))
        assert [await vote.are_equal("1", other) for other in ("2", "bomb")] == found == [True, False]


@pytest.mark.parametrize("first", ["bomb 1", "slow"])
async def test_other_votes_do_not_wait_behind_the_bombs_of_one(bombed: None, first: str) -> None:
    """They share a child with its first question alone: the second one, which hangs, is asked of another child."""
    async with EqualityChecker(question_seconds=2) as checker:
        bombs, other = checker.start_vote(), checker.start_vote()
        assert await bombs.are_equal("1", first) == (first == "slow")
        hanging = asyncio.create_task(bombs.are_equal("1", "bomb 2"))
        for number in range(20):
            assert await other.are_equal("0", f"1+{number}")
        assert not hanging.done()
        assert not await hanging


async def test_votes_take_turns(bombed: None) -> None:
    """A job's question waits for one of each other job, not for all of theirs."""
    order: list[str] = []

    async def ask(name: str, vote: equality.Vote) -> None:
        for number in range(3):
            await vote.are_equal("0", f"1+{number}")
            order.append(name)

    async with EqualityChecker() as checker:
        await asyncio.gather(*(ask(name, checker.start_vote()) for name in "abc"))
    assert order == list("abcabcabc")


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
