r"""Answers as text: where a text has its answer, and one notation for what can be written in several ways."""

import re
from functools import lru_cache

from gsi.limits import MAX_ANSWER_CHARACTERS

_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)  # ``\\.`` takes \{ and \} along, which pair with nothing

# In this order. As in the comparison of the MATH data set (math_equivalence.py in github.com/hendrycks/math), without
# its steps that calculate (0.5 to a fraction) or that drop the left side of an equation. Each takes linear time: of
# white space that may be missing or long, the first leaves one space.
_NOTATION = (
    (re.compile(r"\s+"), " "),
    (re.compile(r"(?<=\d),\\! ?(?=\d{3})"), ""),  # 10,\!080
    (re.compile(r"(?<!\\)\\[!,:; ]|\\q?quad(?![a-zA-Z])|~"), " "),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])"), ""),
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\([nlg]e)q(?![a-zA-Z])"), r"\\\1"),
    (re.compile(r"\^ ?\{? ?\\circ ?\}?|\\degree(?![a-zA-Z])|°"), ""),
    (re.compile(r"\\?[$%]"), ""),
    (re.compile(r"(?<=[\d})]) *\\(?:text|mbox|mathrm) ?\{[^{}]*\} ?(?:\^ ?(?:\d|\{\d\}))? ?\.? ?$"), ""),  # a unit
    (re.compile(r"\\(?:text|textbf|mbox|mathrm|mathbf) ?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\frac ?(\d) ?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt ?(\w)"), r"\\sqrt{\1}"),
    (re.compile(r"^ ?([+-]?\d{1,3}(?:,\d{3})+)(?=(?:\.\d*)? ?$)"), lambda found: found[1].replace(",", "")),
    (re.compile(r"(?<!\d)\.(?=\d)"), "0."),
    (re.compile(r"\. *$"), ""),
    (re.compile(r" "), ""),
)


def find_last_boxed(text: str) -> str | None:
    r"""Return the contents of the ``\boxed{…}`` that ends last, with any braces inside; None if there is no box."""
    opened: list[int | None] = []  # where the contents of each open brace begin; None if the brace is not a box's
    found = None
    for token in _BRACES.finditer(text):
        if token[0] == "}":
            start = opened.pop() if opened else None
            found = found if start is None else text[start : token.start()]
        elif token[0] == "{" or token[0].startswith(r"\boxed"):
            opened.append(None if token[0] == "{" else token.end())
    return found


@lru_cache(maxsize=512)  # a vote compares each of up to 256 answers with many others
def normalise(answer: str) -> str:
    r"""Return the answer in one notation, without algebra.

    Removed: white space, dollar and percent signs, degrees, ``\left``, ``\right``, a last period, a unit in ``\text{}``
    behind a value, the commas of one long number. Rewritten: ``\dfrac`` and ``\tfrac``, ``\leq``, ``\frac12``,
    ``\sqrt2``, ``\text{even}``, ``.5``.
    """
    for pattern, replacement in _NOTATION:
        answer = pattern.sub(replacement, answer)
    return answer


def compare_as_text(expected: str, given: str) -> bool | None:
    """Return whether two answers are equal, if their text decides: equal notation, or too long for sympy; else None."""
    if normalise(expected) == normalise(given):
        return True
    return False if max(len(expected), len(given)) > MAX_ANSWER_CHARACTERS else None
