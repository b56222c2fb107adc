"""An answer is found by the job's pattern, within limits of text and work."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gsi.algorithm.generate import are_equal_texts, find_boxed_answer
from gsi.algorithm.method import Answers
from gsi.algorithm.params import DEFAULT_ANSWER_PATTERN, Params, StopRules
from gsi.errors import InvalidRequestError
from gsi.jobs.answer_pattern import AnswerFinder
from gsi.jobs.job import parse_payload
from gsi.limits import MAX_MATCH_WORK, MAX_PATTERN_SIZE, MAX_SEARCHED_CHARACTERS
from tests.algorithm.searching import ENDLESS, write


def test_the_last_boxed_answer_counts() -> None:
    r"""A model may box an intermediate result first; braces inside the box are part of it."""
    finder = AnswerFinder(DEFAULT_ANSWER_PATTERN)
    assert finder.find(r"so \boxed{3}, hence \boxed{\frac{1}{2}}") == r"\frac{1}{2}"


def test_the_rules_and_the_jobs_agree_on_what_an_answer_is() -> None:
    """One pattern, two engines: the standard library's and RE2."""
    for text in (r"\boxed{3}", r"\boxed{", r"boxed{3}", r"\boxed{a{b}c}", ""):
        assert AnswerFinder(DEFAULT_ANSWER_PATTERN).find(text) == find_boxed_answer(text)


def test_a_pattern_without_a_group_gives_the_whole_match() -> None:
    """Users need not know about groups."""
    assert AnswerFinder("answer: [0-9]+").find("the answer: 42.") == "answer: 42"


def test_without_a_pattern_there_is_no_answer() -> None:
    """null turns the stop off."""
    assert AnswerFinder(None).find(r"\boxed{3}") is None


def test_a_pattern_that_is_exponential_elsewhere_is_harmless() -> None:
    """One job's expression cannot hold up the coordinator's other jobs."""
    started = time.perf_counter()
    assert AnswerFinder("(a+)+$").find("a" * 5_000 + "b") is None
    assert time.perf_counter() - started < 5


class Counting:
    """A compiled pattern that counts the matches that it is asked for."""

    programsize, groups = 20, 0

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern
        self.num_matches = 0

    def finditer(self, text: str, start: int) -> Iterator[Any]:
        for match in self._pattern.finditer(text, start):
            self.num_matches += 1
            yield match


def counting(pattern: str) -> tuple[AnswerFinder, Counting]:
    finder = AnswerFinder(pattern)
    finder._pattern = Counting(finder._pattern)
    return finder, finder._pattern


def test_whether_there_is_an_answer_is_one_match() -> None:
    """Where each match reads the rest of the text, all of them took seconds of the coordinator's event loop."""
    finder, counted = counting(r"(?s).(?:.*\x00)?")
    assert finder.has_answer("x" * 20_000)
    assert counted.num_matches == 1


def test_the_last_of_very_many_matches_is_looked_for_within_a_limit() -> None:
    """The same text always has the same answer; and an ordinary text has far fewer matches."""
    finder, counted = counting("[a-z][0-9]")
    text = "".join(f"{letter}{digit}" for letter in "abcdefghijklmnopqrstuvwxyz" for digit in range(10)) * 100
    searched = text[-MAX_SEARCHED_CHARACTERS:]
    found = finder.find(text)
    assert 10 < counted.num_matches <= MAX_MATCH_WORK // (20 * len(searched)) + 1 < len(searched) // 2
    assert found == searched[2 * (counted.num_matches - 1) :][:2]
    assert AnswerFinder("[0-9]+").find("Of 1000 numbers " + "12 " * 1000 + "this: 42.") == "42"


def test_an_answer_is_looked_for_at_the_end_of_a_long_text() -> None:
    """A job stops at the step that has its answer, so the rest of the text has none."""
    finder = AnswerFinder("(?:^|=)([0-9]+)")
    assert finder.find("=1" + "x" * MAX_SEARCHED_CHARACTERS) is None
    assert not finder.has_answer("=1" + "x" * MAX_SEARCHED_CHARACTERS)
    assert finder.find("é" * MAX_SEARCHED_CHARACTERS + "=12") == "12"
    assert finder.find("9" * (MAX_SEARCHED_CHARACTERS + 1)) is None  # the pattern sees that this is not the beginning


def test_a_match_without_the_group_is_no_answer() -> None:
    """To find an answer and to say that there is one agree."""
    finder = AnswerFinder("a(1)?")
    assert [finder.find(text) for text in ("a1 a", "a", "")] == ["1", None, None]
    assert [finder.has_answer(text) for text in ("a a1", "a", "")] == [True, False, False]


def test_a_pattern_that_makes_a_large_automaton_is_refused() -> None:
    """The time of a search grows with its size, which a few characters can make thousands of times theirs."""
    for pattern in ("(?:(?:a?b?){30}){30}c", "\\pL" * 250):
        with pytest.raises(InvalidRequestError, match=r"^params.answer_pattern: .*too large"):
            parse_payload({"prompt": "x", "params": {"answer_pattern": pattern}})
    assert AnswerFinder("[\\pL\\pN]+").find("zwölf!") == "zwölf"
    assert MAX_PATTERN_SIZE < 3000


async def test_a_pattern_is_matched_in_a_thread() -> None:
    """RE2 releases Python's global lock, so other jobs go on meanwhile."""
    threads: set[bool] = set()

    def find(text: str) -> str:
        threads.add(threading.current_thread() is threading.main_thread())
        return "b"

    for method in ("gsi", "majority-vote"):
        params = Params(method=method, n=2, stop=StopRules(max_steps=2))
        await write(params, ENDLESS.ports(), answers=Answers(find, are_equal_texts))
    assert threads == {False}


# --- Stop texts -----------------------------------------------------------------------------------------------------


def test_a_text_is_cut_before_the_first_stop_text() -> None:
    """Whichever of them the job names first."""
    finder = AnswerFinder(None, stop=["END", "\n\nQ:"])
    assert finder.cut("A: 5\n\nQ: 2 + 2?END") == "A: 5"
    assert finder.cut("A: 5") == "A: 5"


def test_a_stop_text_ends_the_answer_without_being_one() -> None:
    """The job is complete, and the pattern alone says what its answer is."""
    finder = AnswerFinder(DEFAULT_ANSWER_PATTERN, stop=["END"])
    assert finder.has_answer("so it isEND")
    assert not finder.has_answer("so it is")
    assert finder.find("so it isEND") is None


def test_a_stop_text_that_is_empty_is_refused() -> None:
    """It would be in every text."""
    with pytest.raises(InvalidRequestError, match=r'^params.stop.0: "" is not allowed; allowed: text of 1 to 256'):
        parse_payload({"prompt": "x", "params": {"stop": [""]}})
