r"""Answers as text: where a text has its answer, and one notation for what can be written in several ways."""

import re
from collections.abc import Callable

_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)  # ``\\.`` takes \{ and \} along, which pair with nothing

_Rules = tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]

_SYMBOLS = str.maketrans(
    {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{MULTIPLICATION SIGN}": r"\times ", "·": r"\cdot ", "÷": "/"}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "≈": r"\approx ", "∞": r"\infty ", "°": r"^\circ "}
    | {"π": r"\pi ", "θ": r"\theta ", "∅": r"\emptyset ", "∈": r"\in ", "\N{UNION}": r"\cup ", "∩": r"\cap "}
    | {"\N{DOUBLE-STRUCK CAPITAL R}": r"\mathbb{R}", "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}"}
    | {"¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}"}
)

_UNWRAP = (re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|boldsymbol|boxed) ?\{([^{}]*)\}"), r" \1 ")

# In this order. As in the comparison of the MATH data set (math_equivalence.py in github.com/hendrycks/math), without
# its steps that calculate (0.5 to a fraction) or that drop the left side of an equation. Each takes linear time: of
# white space that may be missing or long, the first leaves one space.
_LATEX: _Rules = (
    (re.compile(r"\s+"), " "),
    (re.compile(r"^ ?\*\*(.*)\*\* ?$"), r"\1"),  # Markdown's bold type
    (re.compile(r"(?<=\d),\\! ?(?=\d{3})"), ""),  # 10,\!080
    (re.compile(r"\\displaystyle(?![a-zA-Z])|\\!|(?<!\\)\\[()\[\]]"), ""),
    (re.compile(r"(?<!\\)\\[,:; ]|\\q?quad(?![a-zA-Z])|~"), " "),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])"), ""),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\([nlg]e)q(?:slant)?(?![a-zA-Z])"), r"\\\1"),
    (re.compile(r"([<>])="), lambda found: r"\le " if found[1] == "<" else r"\ge "),
    (re.compile(r"\\(?:mid|[lr]?vert)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\colon(?![a-zA-Z])"), ":"),
    (re.compile(r"\\([lr])brace(?![a-zA-Z])"), lambda found: r"\{" if found[1] == "l" else r"\}"),
    (re.compile(r"\\([lr])angle(?![a-zA-Z])"), lambda found: "(" if found[1] == "l" else ")"),  # a vector
    (re.compile(r"\\varnothing(?![a-zA-Z])|^ ?\\\{ ?\\\} ?$"), r"\\emptyset"),
    (re.compile(r"^( ?\\\{[^:|]*):"), r"\1|"),  # a set by a rule
    (re.compile(r"\^ ?\{? ?\\circ ?\}?|\\degree(?![a-zA-Z])"), r"^\\circ "),
    _UNWRAP,
    _UNWRAP,  # once more for \boxed{\textbf{(B)}\ 23}
    (re.compile(r"(?:√|(?<![\\a-zA-Z])sqrt) ?\(([^()]*)\)|√ ?(\d+|\w)"), r"\\sqrt{\1\2}"),
    (re.compile(r"\\frac ?(\d) ?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt ?(\w)"), r"\\sqrt{\1}"),
    (re.compile(r" +"), " "),
)

_NUMBERS: _Rules = (
    (re.compile(r"^ ?([+-]?\d{1,3}(?:[, ]\d{3})+)(?=(?:\.\d*)? ?$)"), lambda found: re.sub("[, ]", "", found[1])),
    (re.compile(r"(?<![\d.,])(\d+) (\d+) ?/ ?(\d+)(?![\d.])"), r"\1\\frac{\2}{\3}"),  # a mixed number: 3 1/2
    (re.compile(r"(?<=[\d}]) to (?=[\d\\])"), ":"),
    (re.compile(r"(?<!\d)\.(?=\d)"), "0."),
    (re.compile(r"(?<=\d)\.(\d+)(?![\d.]| ?\\)"), lambda found: f".{found[1]}".rstrip("0").rstrip(".")),  # 145.0, 2.50
)

_TEXT: _Rules = (
    (re.compile(r"\^\\circ|\\?[$%]"), ""),
    (re.compile(r"\. *$"), ""),
    (re.compile(r"(?<!\d) | (?!\d)"), ""),  # 1 2 is not 12
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


def write_latex(answer: str) -> str:
    r"""Return the answer in one kind of LaTeX, which a parser reads as it reads the answer.

    Rewritten: Unicode's symbols, ``\dfrac`` and ``\tfrac``, ``\leq``, ``\mid``, ``\varnothing``, ``\frac12``,
    ``\sqrt2``, ``\text{even}``. Removed: ``\left``, ``\right``, all white space but single spaces.
    """
    return _apply(_LATEX, answer.translate(_SYMBOLS)).strip()


def write_numbers(latex: str) -> str:
    r"""Return LaTeX with one notation of numbers: 1,250, 10 080, ``.5``, ``145.0``, 3 1/2, and 3 to 4."""
    return _apply(_NUMBERS, latex)


def shorten(latex: str) -> str:
    """Return LaTeX without what makes no difference to a reader: for comparison, not for a parser.

    Removed: dollar and percent signs, degrees, a last period, and white space, but for that between two digits.
    """
    return _apply(_TEXT, latex)


def _apply(rules: _Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
