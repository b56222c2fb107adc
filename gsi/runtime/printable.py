"""Text of clients and models as a terminal may show it: nothing in it moves the cursor, hides or reorders text."""

import re

# Control characters but newline and tab (C1 has one-character forms of escape sequences), marks that reorder text, and
# halves of surrogate pairs, which no output can encode.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def replace_controls(text: str) -> str:
    """Return the text with each control character replaced. Newlines and tabs stay."""
    return _CONTROL.sub(_REPLACEMENT, text.replace("\r\n", "\n"))


def escape_controls(json_text: str) -> str:
    r"""Return the same JSON with each control character written as ``\u001b``: JSON allows some of them raw."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def join_lines(text: str) -> str:
    """Return the text on one line."""
    return " / ".join(text.strip().splitlines())
