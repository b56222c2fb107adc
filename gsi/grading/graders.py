r"""Whether an answer is right: the main grader by mathematics, the strict one by notation alone.

Both look at the last ``\boxed{…}`` of a text, else at what the job's answer pattern found. A text without either is
wrong, whatever it says on the way.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from gsi.grading import mathematics
from gsi.grading.equality import EqualityChecker
from gsi.grading.notation import last_boxed, normalised

# "B", "(B)", "B.", "b", "\text{B}", "(B) Inositol", but neither "A = 5" nor "A cat".
_LETTER = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mathbf|boxed)\b|[\s({\[$*])*([a-z])(?:[).:,}\]*$]|\s*$)", re.IGNORECASE
)


class AnswerKind(StrEnum):
    """What the answers of a data set are, and so how they are graded."""

    MATH = "math"  # LaTeX, compared by math-verify
    CHOICE = "choice"  # a letter
    EXACT = "exact"  # an integer, always written in one way


@dataclass(frozen=True, slots=True)
class Grade:
    """What the two graders say. What the strict one accepts, the main one accepts too."""

    is_correct: bool
    is_correct_strict: bool


def grade(text: str, answer: str | None, expected: str, kind: AnswerKind) -> Grade:
    """Grade in this process, whose main thread it must be: see ``mathematics.are_equal``. Never raises there."""
    grade, given = _by_text(text, answer, expected, kind)
    return grade if given is None else Grade(mathematics.are_equal(expected, given), False)


async def grade_with(checker: EqualityChecker, text: str, answer: str | None, expected: str, kind: AnswerKind) -> Grade:
    """Grade as ``grade`` does, with the checker's child for mathematics: for what a model wrote. Never raises."""
    grade, given = _by_text(text, answer, expected, kind)
    return grade if given is None else Grade(await checker.are_equal(expected, given), False)


def _by_text(text: str, answer: str | None, expected: str, kind: AnswerKind) -> tuple[Grade, str | None]:
    """Return the grade as far as text tells, and the answer that mathematics must compare, or None if it need not."""
    boxed = last_boxed(text)
    given = answer if boxed is None else boxed
    if given is None:
        return Grade(False, False), None
    if normalised(given) == normalised(expected):
        return Grade(True, True), None
    if kind is AnswerKind.CHOICE:
        return Grade(_letter(given) == expected, False), None
    return Grade(False, False), given if kind is AnswerKind.MATH else None


def _letter(given: str) -> str | None:
    found = _LETTER.match(given)
    return found[1].upper() if found else None
