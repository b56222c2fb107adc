r"""A job's answer pattern: a regular expression that finds the answer in the written text.

One search by RE2 takes time linear in the text and in the size of the compiled pattern, and both are limited
(``docs/decisions/0003``). To find *all* matches is not linear: a pattern such as ``(?s).(?:.*\x00)?`` reads the rest of
the text at each match. So whether there is an answer is one search, and the last match is looked for within a limit.
A search releases Python's global lock; ``gsi/algorithm`` makes it in a thread, where it delays no other job.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import re2

from gsi.jobs.thinking import split_reasoning
from gsi.limits import MAX_MATCH_WORK, MAX_PATTERN_MEMORY_BYTES, MAX_PATTERN_SIZE, MAX_SEARCHED_CHARACTERS


class AnswerFinder:
    """Finds the answer in the last 32,768 characters of a text by the job's pattern, and the job's stop texts.

    The reasoning trace of a thinking model is not searched: ``thinking`` is the job's parameter.
    """

    def __init__(self, pattern: str | None, thinking: bool | None = None, stop: Sequence[str] = ()) -> None:
        self._thinking = thinking
        self._pattern = compile_pattern(pattern) if pattern is not None else None
        self._stop = stop

    def has_answer(self, text: str) -> bool:
        """Return whether the text is complete: it has a stop text, or ``find`` would find an answer.

        The latter is one search, unless a match lacks the group.
        """
        return any(stop in text for stop in self._stop) or next(self._answers(text), None) is not None

    def cut(self, text: str) -> str:
        """Return the text up to the first stop text."""
        places = [place for place in map(text.find, self._stop) if place >= 0]
        return text[: min(places)] if places else text

    def find(self, text: str) -> str | None:
        """Return the last answer in ``text``: the pattern's first group, or the whole match without one.

        Of very many matches it is the last one within ``MAX_MATCH_WORK``, which is always the same one.
        """
        last = None
        for answer in self._answers(text):
            last = answer
        return last

    def _answers(self, text: str) -> Iterator[str]:
        if self._pattern is None:
            return
        _, text = split_reasoning(text, self._thinking)
        start = max(0, len(text) - MAX_SEARCHED_CHARACTERS)
        most = 1 + MAX_MATCH_WORK // (self._pattern.programsize * (1 + len(text) - start))
        group = 1 if self._pattern.groups else 0
        for match in islice(self._pattern.finditer(text, start), most):
            if match.group(group) is not None:
                yield match.group(group)


def compile_pattern(pattern: str) -> Any:
    """Compile an expression. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False  # else RE2 also writes the error to standard error
    options.max_mem = MAX_PATTERN_MEMORY_BYTES
    return re2.compile(pattern, options)


@lru_cache(maxsize=128)  # jobs of a file share one, and to compile it takes a quarter of a payload's check
def check_pattern(pattern: str) -> str:
    """Return the pattern. Raises ValueError that says why RE2 cannot read it, or that it is too large."""
    try:
        size = compile_pattern(pattern).programsize
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
        raise ValueError(f"not an RE2 regular expression ({reason})") from None
    if size > MAX_PATTERN_SIZE:
        raise ValueError(f"too large for a search (RE2 makes {size} instructions of it, of at most {MAX_PATTERN_SIZE})")
    return pattern
