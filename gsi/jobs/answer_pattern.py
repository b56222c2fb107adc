"""A job's answer pattern: a regular expression that finds the answer in the written text.

RE2 runs in linear time, so no pattern and no text can delay other jobs (``docs/decisions/0003``).
"""

from typing import Any

import re2


class AnswerFinder:
    """Finds the answer in a text by the job's pattern."""

    def __init__(self, pattern: str | None) -> None:
        self._pattern = compile_pattern(pattern) if pattern is not None else None

    def find(self, text: str) -> str | None:
        """Return the last answer in ``text``: the pattern's first group, or the whole match without one."""
        matches = list(self._pattern.finditer(text)) if self._pattern is not None else []
        if not matches:
            return None
        answer: str = matches[-1].group(1 if matches[-1].re.groups else 0)
        return answer


def compile_pattern(pattern: str) -> Any:
    """Compile an expression. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False  # else RE2 also writes the error to standard error
    return re2.compile(pattern, options)


def check_pattern(pattern: str) -> str:
    """Return the pattern. Raises ValueError that says why RE2 cannot read it."""
    try:
        compile_pattern(pattern)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise ValueError(f"not an RE2 regular expression ({reason})") from None
    return pattern
