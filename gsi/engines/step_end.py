"""Where a step ends, and what its text is. The delimiter may be one token or several, so the decoded text decides."""

from collections.abc import Callable, Collection, Sequence

from gsi.algorithm.candidates import FinishReason
from gsi.engines.base import STEP_DELIMITER

Decode = Callable[[Sequence[int]], str]

NUM_CONTEXT = 16  # tokens in front of a step that its text depends on; a character has four bytes, so at most four
UNFINISHED = "\ufffd"  # what decoding gives for bytes that are no whole character


def find_finish_reason(
    token_ids: Sequence[int], decode: Decode, eos_token_ids: Collection[int], max_tokens: int
) -> FinishReason | None:
    """Return why a step ends with the last of these tokens; None if it goes on.

    The caller has asked for each shorter beginning of the tokens, and none of them ended the step.
    """
    last = token_ids[-1]
    if last in eos_token_ids:
        return FinishReason.EOS
    if "\n" in decode([last]) and STEP_DELIMITER in decode(token_ids):
        return FinishReason.DELIMITER
    return FinishReason.LENGTH if len(token_ids) >= max_tokens else None


def read_text(decode: Decode, prefix: Sequence[int], token_ids: Sequence[int], reason: FinishReason) -> str:
    """Return the text that a step's tokens add behind its prefix, so that the texts of steps add up to the answer's.

    A limit on tokens may cut a step inside a character: the character belongs to the step that completes it. And some
    tokenizers leave out a space at the beginning of what they decode, which is not the beginning of the answer.
    """
    context = list(prefix[-NUM_CONTEXT:])
    before = decode(context).rstrip(UNFINISHED) if context else ""
    whole = decode([*context, *token_ids])
    if reason is FinishReason.LENGTH:
        whole = whole.rstrip(UNFINISHED)
    return whole[len(before) :] if whole.startswith(before) else decode(token_ids)
