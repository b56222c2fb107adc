"""A step ends where its decoded text completes the delimiter, whichever tokens write it."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsi.algorithm.candidates import FinishReason
from gsi.engines.step_end import find_finish_reason, read_text

# What real vocabularies hold: 5 ends the sequence, 7 is a control token without text.
PIECES = {0: "a", 1: "\n", 2: "b\n", 3: ".\n\n", 4: "\n\nc", 5: "", 6: "\nd", 7: ""}
EOS = 5
MANY = 100  # tokens, more than any step here has


def decode(token_ids: Sequence[int]) -> str:
    return "".join(PIECES[token] for token in token_ids)


def first_ending(token_ids: Sequence[int], max_tokens: int) -> tuple[int, FinishReason] | None:
    """Return the number of tokens of the step and its finish reason, asking token by token as an engine does."""
    for length in range(1, len(token_ids) + 1):
        if reason := find_finish_reason(token_ids[:length], decode, {EOS}, max_tokens):
            return length, reason
    return None


def defined_ending(token_ids: Sequence[int], max_tokens: int) -> tuple[int, FinishReason] | None:
    """Return the same by the definition alone, without looking at single tokens."""
    for length in range(1, len(token_ids) + 1):
        if token_ids[length - 1] == EOS:
            return length, FinishReason.EOS
        if "\n\n" in decode(token_ids[:length]):
            return length, FinishReason.DELIMITER
        if length == max_tokens:
            return length, FinishReason.LENGTH
    return None


@pytest.mark.parametrize(
    "token_ids",
    [
        [0, 3],  # one token that ends with it
        [0, 4],  # one token that has more behind it
        [0, 1, 1],  # two tokens, half of it each
        [0, 2, 1],  # two tokens, the first with text before it
        [0, 2, 6],  # two tokens, the second with text behind it
        [0, 1, 7, 1],  # a token without text in between
    ],
)
def test_the_token_that_completes_the_delimiter_ends_the_step(token_ids: list[int]) -> None:
    """A comparison of token ids would find only the first of these delimiters."""
    assert first_ending(token_ids, MANY) == (len(token_ids), FinishReason.DELIMITER)


@pytest.mark.parametrize("token_ids", [[0], [0, 1], [2, 2], [1, 0, 1], [6, 6], [0, 7]])
def test_a_single_newline_ends_no_step(token_ids: list[int]) -> None:
    """Neither do two newlines with text between them."""
    assert first_ending(token_ids, MANY) is None


@pytest.mark.parametrize("token_ids", [[EOS], [0, EOS], [0, 1, EOS]])
def test_the_end_of_the_sequence_ends_the_step(token_ids: list[int]) -> None:
    """The token has no text, so its id decides."""
    assert first_ending(token_ids, MANY) == (len(token_ids), FinishReason.EOS)


def test_a_model_may_have_several_tokens_that_end_the_sequence() -> None:
    """A chat model has one token for the end of a turn and one for the end of a document."""
    assert [find_finish_reason([0, last], decode, {5, 7}, MANY) for last in (5, 7)] == [FinishReason.EOS] * 2


def test_a_step_that_does_not_end_is_cut_at_its_longest() -> None:
    """It is neither a token shorter nor a token longer."""
    assert first_ending([0] * 9, max_tokens=4) == (4, FinishReason.LENGTH)


@pytest.mark.parametrize(("last", "reason"), [(EOS, FinishReason.EOS), (3, FinishReason.DELIMITER)])
def test_a_step_that_ends_with_the_last_token_allowed_is_not_called_cut(last: int, reason: FinishReason) -> None:
    """The step is whole, and a job must not treat it as cut."""
    assert find_finish_reason([0, last], decode, {EOS}, max_tokens=2) is reason


@settings(max_examples=500)
@given(st.lists(st.sampled_from(sorted(PIECES)), max_size=12), st.integers(1, 12))
def test_a_step_ends_where_its_text_first_holds_the_delimiter(token_ids: list[int], max_tokens: int) -> None:
    """Or at the end of the sequence, or at its longest, for every sequence of tokens."""
    assert first_ending(token_ids, max_tokens) == defined_ending(token_ids, max_tokens)


class SentencePieces:
    """Decodes as SentencePiece does: the space in front of the first piece is left out."""

    PIECES = ("▁the", "▁answer", "er", "<0xE2>", "<0x82>", "<0xAC>", "▁.")

    def __call__(self, token_ids: Sequence[int]) -> str:
        written = bytearray()
        for token_id in token_ids:
            piece = self.PIECES[token_id]
            written += bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.replace("▁", " ").encode()
        text = written.decode(errors="replace")
        return text.removeprefix(" ")


@given(st.lists(st.integers(0, 6), max_size=40), st.lists(st.integers(1, 12)))
def test_the_texts_of_steps_add_up_to_the_text_of_all_tokens(token_ids: list[int], lengths: list[int]) -> None:
    """Wherever a limit cuts: before a piece that begins with a space, or inside the three bytes of a character."""
    decode, prompt = SentencePieces(), [0, 1]
    whole = [*prompt]
    for euro in token_ids:
        whole += [3, 4, 5] if euro in (3, 4, 5) else [euro]  # whole characters, which the cuts below may split
    cuts = [len(prompt)]
    for length in lengths:
        cuts.append(min(len(whole), cuts[-1] + length))
    cuts.append(len(whole))
    steps = [(begin, end) for begin, end in pairwise(cuts) if end > begin]
    texts = [read_text(decode, whole[:begin], whole[begin:end], FinishReason.LENGTH) for begin, end in steps]
    assert "".join(texts) == decode(whole).removeprefix(decode(prompt))


def test_a_character_that_is_never_completed_is_shown_as_such() -> None:
    """At the end of the answer there is no later step for it."""
    assert read_text(SentencePieces(), [0], [1, 3, 4], FinishReason.EOS) == " answer\ufffd"
    assert read_text(SentencePieces(), [0], [1, 3, 4], FinishReason.LENGTH) == " answer"
