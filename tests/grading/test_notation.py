"""Answers as text: what is in the last box, and which ways of writing are one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.grading.answers import are_alike, compare_as_text, read
from gsi.grading.intervals import write_intervals
from gsi.grading.notation import find_last_boxed, shorten, write_latex, write_numbers
from gsi.limits import MAX_ANSWER_CHARACTERS


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{5} or rather \boxed{6}", "6"),
        (r"\boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt{3}}{2}"),
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
        (r"\boxed {7}", "7"),
        (r"{ an open brace before \boxed{8}", "8"),
        (r"} a closed brace before \boxed{9}", "9"),
        (r"\boxed{10} and then \boxed{\frac{1", "10"),
        (r"\boxed{}", ""),
        (r"\boxed{\frac{1", None),
        ("the answer is 5", None),
    ],
)
def test_the_answer_of_a_text_is_what_its_last_whole_box_holds(text: str, boxed: str | None) -> None:
    """Braces inside count, escaped ones do not, and a box that was cut off is none."""
    assert find_last_boxed(text) == boxed


@given(st.text(st.characters(exclude_characters="{}\\")), st.text())
def test_a_box_gives_back_what_was_put_into_it(answer: str, before: str) -> None:
    """Whatever was written before the last box."""
    assert find_last_boxed(before.replace("\\", "") + r"\boxed{" + answer + "}") == answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\dfrac{1}{2}", r"\frac12"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\tfrac{\pi}{2})"),
        (r"10,\!080", "10080"),
        ("$70,000$", "70000"),
        ("1,234,567.5", "1234567.5"),
        (r"\$18", "18"),
        (r"50\%", "50"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        (r"5\text{ cm}", "5"),
        (r"5 \mathrm{~cm}^2", "5"),
        (r"\text{even}", "even"),
        ("x = 3.", "x=3"),
        (r"\sqrt3", r"\sqrt{3}"),
        (".5", "0.5"),
        (r"a\leq b", r"a \le b"),
        (r"\{x \mid x > 0\}", r"\{x : x > 0\}"),
        (r"\varnothing", r"\{ \}"),
        ("145.0", "145"),
        ("2.50", "2.5"),
        ("3 1/2", r"3\frac12"),
        ("3 to 4", "3:4"),
        ("18 dollars", r"\$18"),
        ("The answer is 18.", "18"),
        (r"\text{5 hours}", "5 hrs"),
        ("101_{two}", "101_2"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ],
)
def test_notation_makes_no_difference(one: str, other: str) -> None:
    """One answer, written in two ways."""
    assert are_alike(one, other)
    assert compare_as_text(one, other) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1/2", "0.5"),
        ("100, 200", "100200"),
        (r"x=\text{odd}", r"x=\text{even}"),
        ("2,3", "3,2"),
        ("x=3", "3"),
        ("1.5", "15"),
    ],
)
def test_notation_is_no_algebra(one: str, other: str) -> None:
    """What must be calculated, or is another answer, is not decided by text."""
    assert compare_as_text(one, other) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12", "1 2"),
        ("1:2:3", "1:3:2"),
        (r"5\text{ cm}", r"5\text{ km}"),
        ("18 dollars", "18 euros"),
        ("101_2", "101_3"),
        ("90^\\circ", "90 radians"),
        (r"\$20", r"20\%"),
        ("(B)", "The answer is C"),
        ("even", "odd"),
        ("silent", "listen"),
        (r"\{1,3\}", "(1,3)"),
    ],
)
def test_some_answers_are_different_at_sight(one: str, other: str) -> None:
    """Mathematics is not asked: it drops units, and would read 1 2 as 12."""
    assert compare_as_text(one, other) is False
    assert compare_as_text(other, one) is False


def test_a_long_answer_is_compared_as_text_alone() -> None:
    """Nobody calculates with it."""
    long = "1+" * MAX_ANSWER_CHARACTERS
    assert compare_as_text(long, "2") is False
    assert compare_as_text(long, f" {long}") is True


@pytest.mark.parametrize("part", [" ", "\\text{", "1,", "^ ", "\\boxed", "\\boxed{", "1,\\! ", "\\frac ", "$", "{"])
def test_an_endless_answer_holds_nobody_up(part: str) -> None:
    """Time grows with the length, not with its square: this would take minutes."""
    text = part * 200_000
    assert len(shorten(write_numbers(write_latex(text)))) <= len(text)
    assert len(read(text).text) <= len(text)
    assert find_last_boxed(text) is None


@pytest.mark.parametrize("end", ["", "!", "\\"])
@pytest.mark.parametrize(
    "part",
    ["1 m^ 2 ", "m^2 ", "m/ ", "5 m", "1 million ", "the a ", "1\\pi m\\cdot ", "x<1 or ", "\\{x|", "(B) ", "1 1/"],
)
def test_no_answer_is_hard_to_take_apart(part: str, end: str) -> None:
    """The longest answer that mathematics compares is read at once: two ways to read a space would take for ever."""
    text = (part * MAX_ANSWER_CHARACTERS)[: MAX_ANSWER_CHARACTERS - len(end)] + end
    assert read(text).text
    assert write_intervals(text)
