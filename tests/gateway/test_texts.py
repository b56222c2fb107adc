"""What of a growing text may be sent, and what must wait for the next step."""

import pytest

from services.gateway.texts import Delta, Reasoning, ReasoningSplitter, StopCutter, split


@pytest.mark.parametrize(
    ("steps", "sent"),
    [
        (["one ", "two"], ["one ", "two", ""]),
        (["one E", "ND two"], ["one ", "", ""]),
        (["one E", "gg END"], ["one ", "Egg ", ""]),
        (["one EN"], ["one ", "EN"]),
        (["ENENEND x"], ["ENEN", ""]),
        (["a END b", "more"], ["a ", "", ""]),
    ],
)
def test_a_stop_text_is_never_sent_nor_its_beginning(steps: list[str], sent: list[str]) -> None:
    """What was held back comes with the next step, or at the end."""
    cutter = StopCutter(["END", "###"])
    assert [*map(cutter.feed, steps), cutter.finish()] == sent


def test_without_stop_texts_nothing_waits() -> None:
    """Each step is sent whole."""
    assert StopCutter([]).feed("all of it") == "all of it"


@pytest.mark.parametrize(
    ("reasoning", "text", "expected"),
    [
        (Reasoning.NONE, "<think>a</think>b", Delta("<think>a</think>b")),
        (Reasoning.TAGS, "<think>a</think>b", Delta("b", "a")),
        (Reasoning.TAGS, "\n<think>a</think>b</think>", Delta("b</think>", "a")),
        (Reasoning.TAGS, "a <think>b</think>", Delta("a <think>b</think>")),
        (Reasoning.TAGS, "<think>no end", Delta("", "no end")),
        (Reasoning.TAGS, "<thi", Delta("<thi")),
        (Reasoning.OPEN, "a</think>b", Delta("b", "a")),
    ],
)
def test_reasoning_is_what_stands_between_the_tags(reasoning: Reasoning, text: str, expected: Delta) -> None:
    """In whatever pieces the text comes: here whole, and by single characters."""
    assert split(text, reasoning) == expected
    splitter = ReasoningSplitter(reasoning)
    pieces = [*map(splitter.feed, text), splitter.finish()]
    assert "".join(piece.content for piece in pieces) == expected.content
    assert "".join(piece.reasoning for piece in pieces) == expected.reasoning
