"""What a mistyped name may have meant."""

import difflib
from collections.abc import Iterable


def suggest(given: str, names: Iterable[str]) -> str:
    """Return "; did you mean …?" with the closest of the names; "" if none is close. Letters' case does not matter."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def list_names(given: str, names: Iterable[str]) -> str:
    """Return all names, for an error behind "allowed: ", and which of them was probably meant."""
    known = list(names)
    return ", ".join(known) + suggest(given, known)
