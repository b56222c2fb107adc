"""What of a growing text may be sent already: not what may turn out to be a stop text, nor half of a tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

OPEN, CLOSE = "<think>", "</think>"


class Reasoning(StrEnum):
    """Where a thinking model writes its reasoning."""

    NONE = "none"  # the text is the answer
    TAGS = "tags"  # it begins with <think>, and the answer follows </think>
    OPEN = "open"  # the chat template has written <think>, so the text begins within


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new of a message."""

    content: str = ""
    reasoning: str = ""


class StopCutter:
    """Lets a text through up to the first stop text."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._rest = ""
        self.is_over = False

    def feed(self, text: str) -> str:
        """Return what may be sent now that ``text`` was written."""
        if self.is_over:
            return ""
        self._rest += text
        places = [place for place in map(self._rest.find, self._stop) if place >= 0]
        self.is_over = bool(places)
        length = min(places) if places else len(self._rest) - _held(self._rest, self._stop)
        sent, self._rest = self._rest[:length], self._rest[length:]
        return sent

    def finish(self) -> str:
        """Return what was held back, now that nothing follows."""
        return "" if self.is_over else self._rest


class ReasoningSplitter:
    """Tells a thinking model's reasoning from its answer."""

    def __init__(self, reasoning: Reasoning) -> None:
        self._is_begun = reasoning is not Reasoning.TAGS
        self._is_reasoning = reasoning is Reasoning.OPEN
        self._rest = ""

    def feed(self, text: str) -> Delta:
        """Return what may be sent now that ``text`` was written."""
        self._rest += text
        if not self._is_begun:
            begin = self._rest.lstrip()
            if len(begin) < len(OPEN) and OPEN.startswith(begin):
                return Delta()
            self._is_begun, self._is_reasoning = True, begin.startswith(OPEN)
            self._rest = begin.removeprefix(OPEN) if self._is_reasoning else self._rest
        reasoning = self._take_reasoning() if self._is_reasoning else ""
        content = "" if self._is_reasoning else self._rest
        self._rest = self._rest if self._is_reasoning else ""
        return Delta(content, reasoning)

    def finish(self) -> Delta:
        """Return what was held back, now that nothing follows."""
        return Delta(reasoning=self._rest) if self._is_reasoning else Delta(self._rest)

    def _take_reasoning(self) -> str:
        place = self._rest.find(CLOSE)
        self._is_reasoning = place < 0
        length = len(self._rest) - _held(self._rest, [CLOSE]) if place < 0 else place
        taken = self._rest[:length]
        self._rest = self._rest[length:] if place < 0 else self._rest[place + len(CLOSE) :]
        return taken


def split(text: str, reasoning: Reasoning) -> Delta:
    """Split a whole text."""
    splitter = ReasoningSplitter(reasoning)
    first, last = splitter.feed(text), splitter.finish()
    return Delta(first.content + last.content, first.reasoning + last.reasoning)


def _held(text: str, markers: Sequence[str]) -> int:
    """Return how many characters at the end may be the beginning of a marker."""
    longest = max((len(marker) - 1 for marker in markers), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-size:]) for marker in markers):
            return size
    return 0
