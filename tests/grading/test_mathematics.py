"""Equality of answers by math-verify."""

import io
import json
import resource
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsi.grading.mathematics import MAX_MEMORY_BYTES, answer_questions, are_equal
from gsi.runtime.child import child_command

EQUAL = [
    ("1/2", "0.5"),
    (r"\frac{\sqrt{8}}{2}", r"\sqrt{2}"),
    ("3, -3", "-3, 3"),
    ("1,3", r"1 \text{ and } 3"),
    (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"),
    ("3", "x=3"),
    ("2n-2", "2(n-1)"),
    ("18", "18.00"),
    ("4.5e33", r"4.5 \times 10^{33}"),
    ("1e-5", "0.00001"),
    (r"2e27 x", r"2 \times 10^{27} x"),
    ("-1./3", r"-\frac{1}{3}"),
    (r"\text{even}", "even"),
]
DIFFERENT = [
    ("1/2", "0.6"),
    ("x", "y"),
    ("3, -3", "3"),
    ("2e-10", "3e-10"),
    ("0.0000001", "0.0000002"),
    ("6.6e-34", r"6.7 \cdot 10^{-34}"),
    ("(1,5]", "[1,5]"),
    ("-1", "1"),
    ("", "5"),
    (r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}", r"\frac{2}{3}"),
]


@pytest.mark.parametrize(("expected", "given"), EQUAL)
def test_answers_of_the_same_value_are_equal(expected: str, given: str) -> None:
    """However they are written."""
    assert are_equal(expected, given)


@pytest.mark.parametrize(("expected", "given"), DIFFERENT)
def test_answers_of_different_values_are_not(expected: str, given: str) -> None:
    """However small the numbers are."""
    assert not are_equal(expected, given)


LATEX = st.lists(
    st.sampled_from(
        ["\\frac", "\\sqrt", "\\boxed", "{", "}", "(", "]", "^", "_", "1", "0", "x", ",", "=", "$", "e", "."]
    ),
    max_size=12,
).map("".join)


# On a busy machine math-verify's alarm may come inside the callback of a weak reference, where Python only reports it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40) | LATEX, st.text(max_size=40) | LATEX)
def test_any_two_texts_can_be_compared(expected: str, given: str) -> None:
    """What makes no sense is equal to nothing but itself; nothing is raised."""
    assert are_equal(expected, given) in (True, False)
    assert are_equal(given, given)


def test_questions_are_answered_line_by_line() -> None:
    """The first line says that the tables are built."""
    answers = io.StringIO()
    answer_questions([json.dumps(["1/2", "0.5"]), json.dumps(["1/2", "\ud800\n"])], answers)
    assert answers.getvalue().split() == ["ready", "true", "false"]


def test_the_child_has_bounded_memory_and_ends_when_nobody_asks() -> None:
    """Its limit is set before the first question, and the end of its input is its own."""
    command = child_command([sys.executable, "-m", "gsi.grading.mathematics"])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert resource.prlimit(child.pid, resource.RLIMIT_AS) == (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES)
        child.communicate(timeout=30)
    assert child.returncode == 0
