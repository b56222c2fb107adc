r"""Inequalities that words join, as intervals, in LaTeX: ``x < 1 or x > 3`` is ``(-\infty,1)\cup(3,\infty)``.

math-verify compares one inequality with an interval. It reads several, joined by words, as a list.
"""

import re

_MEMBER = re.compile(r"^[A-Za-z] ?\\in(?![a-zA-Z]) ?")  # x \in [1,3)
_RULE = re.compile(r"\\\{ ?[A-Za-z](?: ?\\in ?\\mathbb ?\{?R\}?)? ?\| ?(.*(?:[<>]|\\[lg]e(?![a-zA-Z])).*)\\\}")
_JOINT = re.compile(r",? *(?:\b(or|and)\b|\\(lor|land)(?![a-zA-Z])) *")
_SIGN = re.compile(r" *(<|>|\\[lg]e(?![a-zA-Z])) *")
_NAME = re.compile(r"[A-Za-z]|\\[a-z]+")
_TURNED = {">": "<", r"\ge": r"\le"}
_FROM, _TO = r"(-\infty", r"\infty)"


def write_intervals(latex: str) -> str:
    r"""Return ``\{x | …\}`` and ``x \in …`` without their variable, and inequalities that words join as intervals."""
    latex = _RULE.sub(r"\1", _MEMBER.sub("", latex))
    joints = {found[1] or found[2] for found in _JOINT.finditer(latex)}
    parts = [_write_ends(part.strip()) for part in _JOINT.split(latex)[::3]]
    if len(joints) != 1 or None in parts or len({name for name, _, _ in filter(None, parts)}) != 1:
        return latex
    ends = [(low, high) for _, low, high in filter(None, parts)]
    if joints <= {"or", "lor"}:
        return r"\cup".join(f"{low},{high}" for low, high in ends)
    lows, highs = {low for low, _ in ends} - {_FROM}, {high for _, high in ends} - {_TO}
    return f"{lows.pop()},{highs.pop()}" if (len(lows), len(highs)) == (1, 1) else latex


def _write_ends(inequality: str) -> tuple[str, str, str] | None:
    """Return an inequality's variable, and both ends of the interval of its values; None for anything else."""
    first, *others = _SIGN.split(inequality)
    signs, terms = others[::2], [first, *others[1::2]]
    if {sign in ("<", r"\le") for sign in signs} == {False}:  # 3 > x
        signs, terms = [_TURNED[sign] for sign in reversed(signs)], terms[::-1]
    places = [place for place, term in enumerate(terms) if _NAME.fullmatch(term)]
    if len(places) != 1 or not {"<", r"\le"}.issuperset(signs) or len(terms) > 3:
        return None
    place = places[0]
    low = _FROM if place == 0 else ("(" if signs[place - 1] == "<" else "[") + terms[place - 1]
    high = _TO if place == len(signs) else terms[place + 1] + (")" if signs[place] == "<" else "]")
    return terms[place], low, high
