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
from decimal import Decimal
from typing import Any, TextIO

from math_verify import LatexExtractionConfig, parse, verify
from math_verify.errors import TimeoutException

from gsi.grading.notation import compare_as_text, normalise

PARSE_SECONDS = 3  # for one answer; math-verify counts whole seconds
VERIFY_SECONDS = 3
MAX_MEMORY_BYTES = 2**30  # address space; 70 MB of it are taken at the start

_WHOLE_BOX = (LatexExtractionConfig(try_extract_without_anchor=False, boxed_match_priority=0),)

_NUMBER = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))"
    r"(?:(?:[eE]|(?:\\times|\\cdot|\*)10\^)(\{)?([+-]?\d{1,4})(?(2)\}))?"  # 4.5e33, 4.5\times10^{33}
)
_EXPONENT = re.compile(r"(?<=\d)\.?[eE]([+-]?\d+)(?![\w.])")
_DANGLING_POINT = re.compile(r"(?<=\d)\.(?![\d.])")


def are_equal(expected: str, given: str) -> bool:
    r"""Return whether two answers, LaTeX without ``$`` or a box, are equal: as text, as numbers, or to math-verify.

    Call it in the main thread of a process, where it never raises: math-verify sets its time limits by an alarm. It may
    still hang or take any amount of memory, so use ``EqualityChecker`` for texts of a model.
    """
    decided = compare_as_text(expected, given)
    if decided is not None:
        return decided
    numbers = _parse_number(expected), _parse_number(given)
    if None not in numbers:  # math-verify rounds to six places, where 2e-10 and 3e-10 are both 0
        return numbers[0] == numbers[1]
    try:
        return bool(verify(_parse_answer(expected), _parse_answer(given), timeout_seconds=VERIFY_SECONDS))
    except TimeoutException:  # the alarm of a call that had just ended
        return False


def _parse_number(answer: str) -> Decimal | None:
    """Return the value of an answer that is one decimal number, in any notation of its exponent; else None."""
    found = _NUMBER.fullmatch(normalise(answer))
    return Decimal(f"{found[1]}e{found[3] or 0}") if found else None


def _parse_answer(answer: str) -> list[Any]:
    """Return the answer as sympy parses it, if it can, and as text.

    math-verify would read 4.5e33 as a product with Euler's number. Of an answer that it cannot parse as a whole it
    would take the last fraction, unless told to stop at the first match.
    """
    latex = _DANGLING_POINT.sub("", _EXPONENT.sub(r" \\times 10^{\1}", answer))
    parsed: list[Any] = parse(
        f"\\boxed{{{latex}}}", _WHOLE_BOX, extraction_mode="first_match", parsing_timeout=PARSE_SECONDS
    )
    return parsed


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
