"""How often the graders err, over more than a thousand pairs of answers in ``pairs.txt``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gsi.grading.graders import AnswerKind, Grade, grade
from gsi.grading.mathematics import are_equal

FILE = Path(__file__).with_name("pairs.txt")
DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"
CATEGORY = re.compile(r"\[([a-z ]+)\] .+")
PAIR = re.compile(r"(.+) (==|!=) (.+)")

MAX_REFUSED = 0.03  # of the equal pairs
MAX_REFUSED_OF_A_CATEGORY = 0.06  # one pair of the smallest ones, three of a usual one


class Pair(NamedTuple):
    """A line of the file."""

    category: str
    expected: str
    given: str
    is_equal: bool

    @property
    def kind(self) -> AnswerKind:
        return AnswerKind.CHOICE if self.category == "choices" else AnswerKind.MATH


def read_pairs() -> Iterator[Pair]:
    category = ""
    for line in FILE.read_text().splitlines():
        if found := CATEGORY.fullmatch(line):
            category = found[1]
        elif line and not line.startswith("#"):
            found = PAIR.fullmatch(line)
            assert found is not None, line
            yield Pair(category, found[1], found[3], found[2] == "==")


PAIRS = list(read_pairs())
CATEGORIES = list(dict.fromkeys(pair.category for pair in PAIRS))


@pytest.fixture(scope="module")
def grades() -> dict[Pair, Grade]:
    """Return what both graders say of each pair."""
    return {pair: grade("", pair.given, pair.expected, pair.kind) for pair in PAIRS}


def find_refused(grades: dict[Pair, Grade], category: str | None = None) -> tuple[list[Pair], float]:
    """Return the equal pairs that the main grader refuses, and their share of the equal ones."""
    equal = [pair for pair in grades if pair.is_equal and category in (None, pair.category)]
    refused = [pair for pair in equal if not grades[pair].is_correct]
    return refused, len(refused) / len(equal)


def test_at_most_three_of_a_hundred_equal_answers_are_refused(grades: dict[Pair, Grade]) -> None:
    """By the main grader."""
    refused, share = find_refused(grades)
    assert share <= MAX_REFUSED, refused


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_category_is_much_worse_than_the_others(grades: dict[Pair, Grade], category: str) -> None:
    """Each has equal and different pairs, and few equal ones are refused."""
    refused, share = find_refused(grades, category)
    assert share <= MAX_REFUSED_OF_A_CATEGORY, refused
    assert any(not pair.is_equal for pair in grades if pair.category == category)


def test_no_different_answer_is_accepted(grades: dict[Pair, Grade]) -> None:
    """By either grader."""
    assert [pair for pair in PAIRS if not pair.is_equal and grades[pair] != Grade(False, False)] == []


def test_a_vote_joins_no_different_answers() -> None:
    """It has no data set's answer and no kind of answers, so it asks in any order."""
    different = [pair for pair in PAIRS if not pair.is_equal]
    assert [pair for pair in different if are_equal(pair.given, pair.expected)] == []
    choices = [pair for pair in different if pair.kind is AnswerKind.CHOICE]  # the others: test_no_different_answer_…
    assert [pair for pair in choices if are_equal(pair.expected, pair.given)] == []


def test_the_main_grader_accepts_what_the_strict_grader_accepts(grades: dict[Pair, Grade]) -> None:
    """Of the equal answers, the strict grader accepts those that are written alike: more than half of these."""
    strict = [pair for pair in PAIRS if grades[pair].is_correct_strict]
    assert all(grades[pair].is_correct for pair in strict)
    assert len(strict) > sum(pair.is_equal for pair in PAIRS) / 2


def test_the_document_says_how_many_pairs_there_are(grades: dict[Pair, Grade]) -> None:
    """And how many equal ones are refused."""
    equal = sum(pair.is_equal for pair in PAIRS)
    refused, _ = find_refused(grades)
    said = (
        f"Of {equal} equal pairs the main grader refuses {len(refused)}, of {len(PAIRS) - equal} different ones neither"
    )
    assert said in " ".join(DOCUMENT.read_text().split())


def test_no_pair_stands_twice() -> None:
    """So that no share counts one twice."""
    assert len(PAIRS) == len(set(PAIRS)) >= 400
