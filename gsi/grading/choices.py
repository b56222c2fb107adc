r"""The letter of an answer to a question with choices: ``B``, ``(B)``, ``B. 23``, ``\textbf{(B)}\ 23``."""

import re

# A letter alone, in brackets, or with a mark behind it; then what the choice says. Neither "A = 5" nor "A cat".
_LETTER = re.compile(
    r"(?:[(\[{] ?([A-Za-z]) ?[)\]}] ?[.:]?"
    r"|([A-Za-z])(?: ?[.):]| ?$| is (?:the )?(?:correct|right)(?: (?:answer|choice|option))?$)) ?(.*)",
    re.DOTALL,
)
# Behind the letter: "is wrong", or another letter: "C", ", C", "and (C)", "or C are right".
_DENIAL = re.compile(
    r"(?:is|isn't|are)\b(?! (?:the )?(?:correct|right|best)\b)|(?:incorrect|wrong|not (?:correct|right))\b"
)
_ANOTHER = re.compile(
    r"[\s(\[]*(?:[A-Z][\s).\]]*$|(?:(?:[,;/&]|\\&|and\b|or\b)[\s(\[]*)+[A-Z](?![A-Z]))", re.IGNORECASE
)


def split_letter(latex: str) -> tuple[str, str] | None:
    """Return the letter that an answer chooses, and what it says of that choice; None if it chooses none, or several.

    ``latex`` has no words before the letter (``strip_words_before`` of ``units.py``).
    """
    found = _LETTER.fullmatch(latex)
    if found is None or _ANOTHER.match(found[3]) or _DENIAL.match(found[3]):
        return None
    return found[1] or found[2], found[3].strip()
