"""What of a growing text may be sent already: not what may turn out to be a stop text, nor half of a tag."""

from collections.abc import Sequence
from dataclasses import dataclass

from gsi.jobs.thinking import BEGIN, END, split_reasoning


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


class ReasoningSplitter:
    """Tells a thinking model's reasoning from its answer, as a job's result does; ``thinking``: the job's parameter."""

    def __init__(self, thinking: bool | None) -> None:
        self._thinking = thinking
        self._text = ""
        self._sent = Delta()

    def feed(self, text: str) -> Delta:
        """Return what may be sent now that ``text`` was written."""
        self._text += text
        is_split = self._thinking is not False
        known = self._text[: len(self._text) - _held(self._text, (BEGIN, END))] if is_split else self._text
        if is_split and not known.strip():
            return Delta()  # a trace may begin behind blank lines
        reasoning, content = split_reasoning(known, self._thinking)
        return self.finish(content, reasoning)

    def finish(self, content: str, reasoning: str) -> Delta:
        """Return what was not sent of a message, which begins with what was sent."""
        sent, self._sent = self._sent, Delta(content, reasoning)
        return Delta(content[len(sent.content) :], reasoning[len(sent.reasoning) :])


def _held(text: str, markers: Sequence[str]) -> int:
    """Return how many characters at the end may be the beginning of a marker."""
    longest = max((len(marker) - 1 for marker in markers), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-size:]) for marker in markers):
            return size
    return 0
