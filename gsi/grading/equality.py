"""Whether two answers are equal; mathematics runs in a child process, which may hang or crash.

Why not a process pool: ``docs/decisions/0012-two-graders-and-a-child-for-mathematics.md``.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Self

import structlog

from gsi.grading.notation import compare_as_text
from gsi.runtime.child import child_command

START_SECONDS = 60.0  # the child imports sympy, perhaps on a busy machine
QUESTION_SECONDS = 10.0  # two answers to parse and one comparison, at most 3 s each: see ``mathematics.py``

log = structlog.get_logger()


class EqualityChecker:
    """Compares two answers by their text, and asks math-verify in a child process if the text does not decide.

    The child starts with the first such question and answers one question at a time. A child that takes longer than
    ``question_seconds``, or crashes, is replaced, and its question is answered by text alone: not equal.
    """

    def __init__(self, question_seconds: float = QUESTION_SECONDS) -> None:
        self._question_seconds = question_seconds
        self._one_at_a_time = asyncio.Lock()
        self._child: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def are_equal(self, expected: str, given: str) -> bool:
        """Return whether two answers are equal. Never raises, whatever the answers say."""
        decided = compare_as_text(expected, given)
        if decided is not None:
            return decided
        async with self._one_at_a_time:
            return await self._ask(expected, given)

    async def close(self) -> None:
        """End the child. A later question starts another child."""
        async with self._one_at_a_time:
            await self._end_child()

    async def _ask(self, expected: str, given: str) -> bool:
        answer = b""
        try:
            child = await self._start_child_if_none()
            assert child.stdin is not None
            child.stdin.write(json.dumps([expected, given]).encode() + b"\n")
            answer = await _read_line(child, self._question_seconds)
        except TimeoutError:
            pass
        finally:
            if not answer:  # the child hangs, has crashed, or this call was cancelled
                log.warning("answers_compared_as_text", expected=expected, given=given)
                await self._end_child()
        return answer == b"true\n"

    async def _start_child_if_none(self) -> Process:
        if self._child is None or self._child.returncode is not None:
            command = child_command([sys.executable, "-m", "gsi.grading.mathematics"])
            self._child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
            await _read_line(self._child, START_SECONDS)  # "ready"
        return self._child

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            with suppress(ProcessLookupError):  # the child has ended by itself
                child.kill()
            await child.communicate()


async def _read_line(child: Process, seconds: float) -> bytes:
    """Read a line; empty when the child has ended. Raises TimeoutError."""
    assert child.stdout is not None
    return await asyncio.wait_for(child.stdout.readline(), seconds)
