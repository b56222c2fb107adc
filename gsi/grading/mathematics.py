r"""Mathematical equality of two answers, by math-verify (github.com/huggingface/Math-Verify).

``python -m gsi.grading.mathematics`` answers questions, one per line of JSON, for ``equality.py``: sympy may hang or
fill the memory over a model's answer, and only the end of a process is sure to stop it.
"""

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any, TextIO

from math_verify import LatexExtractionConfig, parse, verify
from math_verify.errors import TimeoutException

from gsi.grading.answers import compare_as_text, read_pair
from gsi.grading.intervals import write_intervals
from gsi.grading.notation import shorten
from gsi.grading.units import PERCENT

PARSE_SECONDS = 3  # for one answer; math-verify counts whole seconds
VERIFY_SECONDS = 3
MAX_MEMORY_BYTES = 2**30  # address space; 70 MB of it are taken at the start

# units.py has read the unit: math-verify would take 5 km for 5, and 3t for 3.
_WITHOUT_UNITS = replace(LatexExtractionConfig().normalization_config, units=False)
_WHOLE_BOX = (
    LatexExtractionConfig(
        try_extract_without_anchor=False, boxed_match_priority=0, normalization_config=_WITHOUT_UNITS
    ),
)

_NUMBER = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))"
    r"(?:(?:[eE]|(?:\\times|\\cdot|\*)10\^)(\{)?([+-]?\d{1,4})(?(2)\}))?"  # 4.5e33, 4.5\times10^{33}
)
_EXPONENT = re.compile(r"(?<=\d)\.?[eE]([+-]?\d+)(?![\w.])")
_DANGLING_POINT = re.compile(r"(?<=\d)\.(?![\d.])")
_RECURRING = re.compile(r"(\d+)\.(\d*) ?\\(?:overline|bar|dot) ?\{?(\d+)\}?")


def are_equal(expected: str, given: str) -> bool:
    r"""Return whether two answers, LaTeX without ``$`` or a box, are equal: as text, as numbers, or to math-verify.

    Call it in the main thread of a process, where it never raises: math-verify sets its time limits by an alarm. It may
    still hang or take any amount of memory, so use ``EqualityChecker`` for texts of a model.
    """
    decided = compare_as_text(expected, given)
    if decided is not None:
        return decided
    one, other = read_pair(expected, given)
    if _have_equal_values(one.latex, other.latex):
        return True
    if (one.unit == PERCENT) == (other.unit == PERCENT):
        return False
    if one.unit == PERCENT:  # 25 % is 25 and 0.25
        return _have_equal_values(_divide_by_100(one.latex), other.latex)
    return _have_equal_values(one.latex, _divide_by_100(other.latex))


def _divide_by_100(latex: str) -> str:
    number = _parse_number(latex)
    return rf"\frac{{{latex}}}{{100}}" if number is None else f"{number:f}e-2"


def _have_equal_values(expected: str, given: str) -> bool:
    one, other = _parse_number(expected), _parse_number(given)
    if one is not None and other is not None:  # math-verify rounds to six places, where 2e-10 and 3e-10 are both 0
        return one == other
    places = max(_count_places(one), _count_places(other))
    try:
        return bool(
            verify(
                _parse_answer(expected),
                _parse_answer(given),
                float_rounding=places,
                allow_set_relation_comp=True,
                timeout_seconds=VERIFY_SECONDS,
            )
        )
    except TimeoutException:  # the alarm of a call that had just ended
        return False


def _count_places(number: Decimal | None) -> int:
    """Return how many places math-verify must keep, so that it sees six digits of a number."""
    return 6 if not number else max(6, 5 - number.adjusted())


def _parse_number(latex: str) -> Decimal | None:
    """Return the value of an answer that is one decimal number, in any notation of its exponent; else None."""
    found = _NUMBER.fullmatch(re.sub(r"^([+-]?)(?=10\^)", r"\g<1>1*", shorten(latex)))
    return Decimal(f"{found[1]}e{found[3] or 0}") if found else None


def _parse_answer(latex: str) -> list[Any]:
    """Return the answer as sympy parses it, if it can, and as text.

    math-verify would read 4.5e33 as a product with Euler's number. Of an answer that it cannot parse as a whole it
    would take the last fraction, unless told to stop at the first match.
    """
    latex = _RECURRING.sub(_write_fraction, write_intervals(latex).replace(r"\approx", "="))
    latex = _DANGLING_POINT.sub("", _EXPONENT.sub(r" \\times 10^{\1}", latex))
    parsed: list[Any] = parse(
        f"\\boxed{{{latex}}}", _WHOLE_BOX, extraction_mode="first_match", parsing_timeout=PARSE_SECONDS
    )
    return parsed


def _write_fraction(found: re.Match[str]) -> str:
    """Return a recurring decimal as a fraction, which it equals exactly."""
    whole, start, period = found.groups()
    numerator = int(whole + start + period) - int(whole + start)
    return rf"\frac{{{numerator}}}{{{10 ** len(start) * (10 ** len(period) - 1)}}}"


def answer_questions(questions: Iterable[str], answers: TextIO) -> None:
    """Write ``ready``, then answer each line of ``[expected, given]`` with a line of ``true`` or ``false``."""
    are_equal("x^2", "x")  # sympy builds tables on first use
    print("ready", file=answers, flush=True)
    for question in questions:
        print(json.dumps(are_equal(*json.loads(question))), file=answers, flush=True)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which may still ask questions
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # so that what a library prints is not read as an answer
        answer_questions(sys.stdin, answers)


if __name__ == "__main__":
    main()
