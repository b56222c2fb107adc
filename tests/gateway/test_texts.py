"""What of a growing text may be sent, and what must wait for the next step."""

import pytest

from gsi.jobs.thinking import split_reasoning
from services.gateway.texts import ReasoningSplitter, StopCutter


@pytest.mark.parametrize(
    ("steps", "sent"),
    [
        (["one ", "two"], ["one ", "two"]),
        (["one E", "ND two"], ["one ", ""]),
        (["one E", "gg END"], ["one ", "Egg "]),
        (["one EN"], ["one "]),
        (["ENENEND x"], ["ENEN"]),
        (["a END b", "more"], ["a ", ""]),
    ],
)
def test_a_stop_text_is_never_sent_nor_its_beginning(steps: list[str], sent: list[str]) -> None:
    """What was held back comes with the next step; at the end the job's result has the rest."""
    cutter = StopCutter(["END", "###"])
    assert [*map(cutter.feed, steps)] == sent


def test_without_stop_texts_nothing_waits() -> None:
    """Each step is sent whole."""
    assert StopCutter([]).feed("all of it") == "all of it"


@pytest.mark.parametrize(
    ("thinking", "text", "content", "reasoning"),
    [
        (False, "<think>a</think>b", "<think>a</think>b", ""),
        (None, "<think>a</think>b", "b", "a"),
        (None, "\n<think>\na\n\nb\n</think>\n\nc</think>", "c</think>", "a\n\nb"),
        (None, "a <think>b</think>", "a <think>b</think>", ""),
        (None, "<think>no end", "", "no end"),
        (None, "<thi", "<thi", ""),
        (True, "a</think>b", "b", "a"),
    ],
)
def test_reasoning_is_what_stands_between_the_tags(
    thinking: bool | None, text: str, content: str, reasoning: str
) -> None:
    """In whatever pieces the text comes, here by single characters, the message is that of the job's result."""
    assert split_reasoning(text, thinking) == (reasoning, content)
    splitter = ReasoningSplitter(thinking)
    pieces = [*map(splitter.feed, text), splitter.finish(content, reasoning)]
    assert "".join(piece.content for piece in pieces) == content
    assert "".join(piece.reasoning for piece in pieces) == reasoning
