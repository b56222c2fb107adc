"""An answer is found by the job's pattern, in linear time."""

import time

from gsi.algorithm.generate import find_boxed_answer
from gsi.algorithm.params import DEFAULT_ANSWER_PATTERN
from gsi.jobs.answer_pattern import AnswerFinder


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
