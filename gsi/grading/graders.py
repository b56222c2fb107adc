r"""Whether an answer is right: the main grader compares by mathematics, the strict grader by notation alone.

Both read the last ``\boxed{…}`` of a text, or else what the job's answer pattern found. A text without either is wrong.
"""

from dataclasses import dataclass
from enum import StrEnum

from gsi.grading import mathematics
from gsi.grading.answers import are_alike
from gsi.grading.choices import split_letter
from gsi.grading.equality import EqualityChecker
from gsi.grading.notation import find_last_boxed, write_latex
from gsi.grading.units import strip_words_before


class AnswerKind(StrEnum):
    """The kind of answers in a data set, which decides how they are graded."""

    MATH = "math"  # LaTeX, compared by math-verify
    CHOICE = "choice"  # a letter
    EXACT = "exact"  # an integer, always written in the same way


@dataclass(frozen=True, slots=True)
class Grade:
    """The results of both graders. The main grader accepts every answer that the strict grader accepts."""

    is_correct: bool
    is_correct_strict: bool


def grade(text: str, answer: str | None, expected: str, kind: AnswerKind) -> Grade:
    """Grade in this process. Call it in the main thread, where it never raises: see ``mathematics.are_equal``."""
    grade, given = _grade_by_text(text, answer, expected, kind)
    return grade if given is None else Grade(mathematics.are_equal(expected, given), False)


async def grade_with(checker: EqualityChecker, text: str, answer: str | None, expected: str, kind: AnswerKind) -> Grade:
    """Grade as ``grade`` does, with mathematics in the checker's child process: for texts of a model. Never raises."""
    grade, given = _grade_by_text(text, answer, expected, kind)
    return grade if given is None else Grade(await checker.are_equal(expected, given), False)


def _grade_by_text(text: str, answer: str | None, expected: str, kind: AnswerKind) -> tuple[Grade, str | None]:
    """Return the grade by text, and the answer that mathematics must compare; None if the text decides."""
    boxed = find_last_boxed(text)
    given = answer if boxed is None else boxed
    if given is None:
        return Grade(False, False), None
    if are_alike(expected, given):
        return Grade(True, True), None
    if kind is AnswerKind.CHOICE:
        return Grade(_read_letter(given) == expected, False), None
    return Grade(False, False), given if kind is AnswerKind.MATH else None


def _read_letter(given: str) -> str | None:
    found = split_letter(strip_words_before(write_latex(given)))
    return found[0].upper() if found else None
