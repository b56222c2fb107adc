"""Whether two answers are equal; mathematics runs in a child process, which may hang or crash.

Why not a process pool: ``docs/decisions/0012-two-graders-and-a-child-for-mathematics.md``.
"""

import asyncio
import json
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from importlib.util import find_spec
from typing import NamedTuple, Self

import structlog

from gsi.errors import MisconfiguredError
from gsi.grading.answers import compare_as_text
from gsi.limits import COMPARISON_SECONDS, MAX_COMPARED_ANSWERS, SLOW_COMPARISON_SECONDS, VOTE_SECONDS
from gsi.runtime.child import child_command
from gsi.runtime.installation import how_to_install

START_SECONDS = 60.0  # the child imports sympy, perhaps on a busy machine

log = structlog.get_logger()


class EqualityChecker:
    """Compares two answers by their text, and asks math-verify in a child process if the text does not decide.

    A child starts with its first question and answers one question at a time. A child that takes longer than
    ``question_seconds``, or crashes, is replaced, and its question is answered by text alone: not equal.
    Raises MisconfiguredError if math-verify is not installed: each question would be answered by text alone.
    """

    def __init__(self, question_seconds: float = COMPARISON_SECONDS) -> None:
        if find_spec("math_verify") is None:
            raise MisconfiguredError(f"math-verify is not installed: {how_to_install('coordinator')}")
        self._quick = _Child(question_seconds)
        self._slow = _Child(question_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def are_equal(self, expected: str, given: str) -> bool:
        """Return whether two answers are equal. Never raises, whatever the answers say."""
        decided = compare_as_text(expected, given)
        return (await self._quick.ask(expected, given)).is_equal if decided is None else decided

    def start_vote(self, seconds: float = VOTE_SECONDS) -> "Vote":
        """Return a comparison for one job, within the limits of a vote."""
        return Vote(self._quick, self._slow, seconds)

    async def close(self) -> None:
        """End the children. A later question starts another child."""
        await self._quick.close()
        await self._slow.close()


class Vote:
    """Compares the answers of one job, within limits; what is undecided within them is not equal.

    Mathematics compares at most 64 different answers, and for ``seconds`` of questions in all. A job may vote again as
    its responses finish: a pair is asked once. Questions of different votes take turns. A vote whose question took
    long, or found no answer, asks another child from then on. So it holds up the other votes by that one question,
    whatever its answers say.
    """

    def __init__(self, quick: "_Child", slow: "_Child", seconds: float) -> None:
        self._child = quick
        self._slow = slow
        self._seconds = seconds
        self._seconds_left = seconds
        self._compared: set[str] = set()
        self._found: dict[tuple[str, str], bool] = {}
        self._is_limited = False

    async def are_equal(self, expected: str, given: str) -> bool:
        """Return whether two answers are equal, as far as the limits allow. Never raises."""
        await asyncio.sleep(0)  # texts alone take up to some milliseconds, and a vote has thousands of pairs
        decided = compare_as_text(expected, given)
        if decided is not None:
            return decided
        pair = (expected, given)
        if pair not in self._found:
            if not self._may_ask(expected, given):
                return False
            self._found[pair] = await self._ask(expected, given)
        return self._found[pair]

    def _may_ask(self, expected: str, given: str) -> bool:
        compared = self._compared | {expected, given}
        if self._seconds_left > 0 and len(compared) <= MAX_COMPARED_ANSWERS:
            self._compared = compared
            return True
        if not self._is_limited:
            log.warning("vote_limited", answers=len(self._compared), seconds=self._seconds)
        self._is_limited = True
        return False

    async def _ask(self, expected: str, given: str) -> bool:
        found = _Found(is_equal=False, is_slow=True)
        started = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds_left):
                found = await self._child.ask(expected, given)
        self._seconds_left -= time.monotonic() - started
        if found.is_slow:
            self._child = self._slow
        return found.is_equal


class _Found(NamedTuple):
    """What a child found, and whether that took long."""

    is_equal: bool
    is_slow: bool


class _Child:
    """A process that answers one question after the other, in the order in which they are asked."""

    def __init__(self, question_seconds: float) -> None:
        self._question_seconds = question_seconds
        self._one_at_a_time = asyncio.Lock()
        self._process: Process | None = None

    async def ask(self, expected: str, given: str) -> _Found:
        """Return whether two answers are equal. A process that does not answer is ended: not equal, and slow."""
        async with self._one_at_a_time:
            return await self._ask(expected, given)

    async def close(self) -> None:
        async with self._one_at_a_time:
            await self._end()

    async def _ask(self, expected: str, given: str) -> _Found:
        answer, started = b"", 0.0
        try:
            process = await self._start_if_none()
            started = time.monotonic()
            assert process.stdin is not None
            process.stdin.write(json.dumps([expected, given]).encode() + b"\n")
            answer = await _read_line(process, self._question_seconds)
        except TimeoutError:
            pass
        finally:
            if not answer:  # the child hangs, has crashed, or this call was cancelled
                log.warning("answers_compared_as_text", expected=expected, given=given)
                await self._end()
        return _Found(answer == b"true\n", not answer or time.monotonic() - started > SLOW_COMPARISON_SECONDS)

    async def _start_if_none(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            command = child_command([sys.executable, "-m", "gsi.grading.mathematics"])
            self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
            await _read_line(self._process, START_SECONDS)  # "ready"
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):  # the child has ended by itself
                process.kill()
            await process.communicate()


async def _read_line(child: Process, seconds: float) -> bytes:
    """Read a line; empty when the child has ended. Raises TimeoutError."""
    assert child.stdout is not None
    return await asyncio.wait_for(child.stdout.readline(), seconds)
