r"""Two answers, compared by their text: alike in notation, equal or different at sight, or a matter of mathematics."""

import re
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

from gsi.grading.choices import split_letter
from gsi.grading.notation import shorten, write_latex, write_numbers
from gsi.grading.units import split_unit, strip_words_before
from gsi.limits import MAX_ANSWER_CHARACTERS

_CHOICES = frozenset("ABCDEFGHIJ")  # x and n are variables
_SET = re.compile(r"\\\{[^|<>]*\\\}")
_TUPLE = re.compile(r"[(\[][^()\[\]]*,[^()\[\]]*[)\]]")
_ARTICLE = re.compile(r"(?:an?|the|there (?:is|are)) (?=[a-z]{2})", re.IGNORECASE)
_WORDS = re.compile(r"[A-Za-z'-]+(?: [A-Za-z'-]+)*")
_A_WORD = re.compile(r"[A-Za-z]{4}|\b(?:yes|no|odd|all|dne)\b|^[A-Z][a-z]{2}", re.IGNORECASE)
_PHRASES = (
    (re.compile(r"(?:empty|null) set|no (?:real )?solutions?(?: exists?)?"), r"\emptyset"),
    (re.compile(r"all (?:real numbers|reals)"), r"\mathbb{R}"),
    (re.compile(r"infinity"), r"\infty"),
)


class Answer(NamedTuple):
    """An answer, taken apart. ``text`` is the value in one notation, ``latex`` is the value for a parser."""

    text: str
    latex: str
    unit: str = ""
    letter: str = ""  # of a choice
    choice: str = ""  # what the answer says of its choice
    is_words: bool = False


@lru_cache(maxsize=512)  # a vote compares each of up to 256 answers with many others
def read(answer: str) -> Answer:
    """Take an answer apart. An answer that is too long for mathematics is text alone."""
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return Answer(shorten(" ".join(answer.split())), answer)
    latex = strip_words_before(write_latex(answer))
    letter, choice = split_letter(latex) or ("", "")
    words = _ARTICLE.sub("", latex)
    if letter not in _CHOICES and _WORDS.fullmatch(words) and _A_WORD.search(words):
        return _read_words(words.casefold())
    value, unit = split_unit(latex)
    value = write_numbers(value)
    return Answer(shorten(value), value, unit, *((letter, choice) if letter in _CHOICES else ()))


def _read_words(words: str) -> Answer:
    for pattern, meaning in _PHRASES:
        if pattern.fullmatch(words):
            return Answer(meaning, meaning)
    words = "does not exist" if words == "dne" else words
    return Answer(words, words, is_words=True)


def read_pair(expected: str, given: str) -> tuple[Answer, Answer]:
    """Take two answers apart; ``(B) 23`` is 23 if the other one names no choice."""
    one, other = read(expected), read(given)
    if one.letter and not other.letter and one.choice:
        one = read(one.choice)
    elif other.letter and not one.letter and other.choice:
        other = read(other.choice)
    return one, other


def are_alike(expected: str, given: str) -> bool:
    """Return whether two answers have the same notation; one of them may leave out its unit."""
    return _are_alike(read(expected), read(given))


def compare_as_text(expected: str, given: str) -> bool | None:
    """Return whether two answers are equal, if their text decides; None if mathematics must."""
    if are_alike(expected, given):
        return True
    if max(len(expected), len(given)) > MAX_ANSWER_CHARACTERS:
        return False
    one, other = read_pair(expected, given)
    if one.letter and other.letter:
        return one.letter == other.letter
    if _are_alike(one, other):
        return True
    are_different = _have_different_units(one, other) or (one.is_words and other.is_words)
    return False if are_different or _is_text(one) or _is_text(other) or _are_set_and_tuple(one, other) else None


def _are_alike(one: Answer, other: Answer) -> bool:
    return one.text == other.text and not _have_different_units(one, other)


def _have_different_units(one: Answer, other: Answer) -> bool:
    return "" not in (one.unit, other.unit) and one.unit != other.unit


def _is_text(answer: Answer) -> bool:
    """Whether a parser would read what is no expression as one: 1 2 as 12, 1:2:3 as a fraction of a fraction."""
    return answer.text.count(":") > 1 or re.search(r"(?<![\d._^])[\d.]+ \d", answer.text) is not None


def _are_set_and_tuple(one: Answer, other: Answer) -> bool:
    r"""Whether one is ``\{1,3\}`` and the other one ``(1,3)``, which math-verify takes for equal."""
    return any(
        _SET.fullmatch(first.text) and _TUPLE.fullmatch(second.text) for first, second in permutations((one, other))
    )
