"""The two graders: by mathematics and by notation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsi.grading.equality import EqualityChecker
from gsi.grading.graders import AnswerKind, Grade, grade, grade_with

RIGHT, LENIENT, WRONG = Grade(True, True), Grade(True, False), Grade(False, False)

CASES = [
    (r"so \boxed{\dfrac{1}{2}}", None, r"\frac{1}{2}", AnswerKind.MATH, RIGHT),
    (r"so \boxed{0.5}", None, r"\frac{1}{2}", AnswerKind.MATH, LENIENT),
    (r"so \boxed{\frac{\frac{1}{2}}{1}}", None, "0.5", AnswerKind.MATH, LENIENT),
    (r"so \boxed{0.6}", None, r"\frac{1}{2}", AnswerKind.MATH, WRONG),
    (r"first \boxed{4}, then \boxed{5}", "4", "5", AnswerKind.MATH, RIGHT),
    (r"\boxed{-3, 3}", None, "3, -3", AnswerKind.MATH, LENIENT),
    (r"\boxed{3}", None, "3, -3", AnswerKind.MATH, WRONG),
    ("#### 18", "18", "18", AnswerKind.MATH, RIGHT),
    ("the answer is 18", None, "18", AnswerKind.MATH, WRONG),
    (r"\boxed{18", None, "18", AnswerKind.MATH, WRONG),
    (r"\boxed{B}", None, "B", AnswerKind.CHOICE, RIGHT),
    (r"\boxed{\text{B}}", None, "B", AnswerKind.CHOICE, RIGHT),
    (r"\boxed{(B)}", None, "B", AnswerKind.CHOICE, LENIENT),
    (r"\boxed{\text{(B) } 23}", None, "B", AnswerKind.CHOICE, LENIENT),
    (r"\boxed{b}", None, "B", AnswerKind.CHOICE, LENIENT),
    (r"\boxed{B: 23}", None, "B", AnswerKind.CHOICE, LENIENT),
    (r"\boxed{C}", None, "B", AnswerKind.CHOICE, WRONG),
    (r"\boxed{B = 5}", None, "B", AnswerKind.CHOICE, WRONG),
    (r"\boxed{23}", None, "B", AnswerKind.CHOICE, WRONG),
    (r"\boxed{\frac{B}{2}}", None, "B", AnswerKind.CHOICE, WRONG),
    (r"\boxed{B, C}", None, "B", AnswerKind.CHOICE, WRONG),
    (r"\boxed{(B) is wrong}", None, "B", AnswerKind.CHOICE, WRONG),
    (r"\boxed{\text{The answer is B}}", None, "B", AnswerKind.CHOICE, RIGHT),
    (r"\boxed{145.0}", None, "145", AnswerKind.MATH, RIGHT),
    (r"\boxed{145.0}", None, "145", AnswerKind.EXACT, RIGHT),
    (r"\boxed{5\text{ km}}", None, r"5\text{ cm}", AnswerKind.MATH, WRONG),
    (r"\boxed{0.25}", None, r"25\%", AnswerKind.MATH, LENIENT),
    (r"The answer is \boxed{20}", "20", "20", AnswerKind.EXACT, RIGHT),
    (r"The answer is \boxed{10+10}", "10+10", "20", AnswerKind.EXACT, WRONG),
]


@pytest.mark.parametrize(("text", "answer", "expected", "kind", "wanted"), CASES)
def test_a_grade(text: str, answer: str | None, expected: str, kind: AnswerKind, wanted: Grade) -> None:
    """Mathematics accepts what is equal, the strict grader what is written alike, and both need an answer."""
    assert grade(text, answer, expected, kind) == wanted


async def test_a_checker_grades_alike() -> None:
    """Only the process in which mathematics runs is another."""
    async with EqualityChecker() as checker:
        for text, answer, expected, kind, wanted in CASES:
            assert await grade_with(checker, text, answer, expected, kind) == wanted


@settings(max_examples=60, deadline=None)
@given(st.text(), st.text(max_size=30), st.text(max_size=30), st.sampled_from(AnswerKind))
def test_any_text_gets_a_grade(text: str, answer: str, expected: str, kind: AnswerKind) -> None:
    """Nothing is raised, and what is right by notation is right."""
    for written in (text, rf"{text}\boxed{{{answer}}}"):
        given = grade(written, answer, expected, kind)
        assert given.is_correct or not given.is_correct_strict
