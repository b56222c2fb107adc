"""Where a step ends. The delimiter may be one token or several, so the decoded text decides."""

from collections.abc import Callable, Collection, Sequence

from gsi.algorithm.candidates import FinishReason
from gsi.engines.base import STEP_DELIMITER

Decode = Callable[[Sequence[int]], str]


def ending(
    token_ids: Sequence[int], decode: Decode, eos_token_ids: Collection[int], max_tokens: int
) -> FinishReason | None:
    """Say why a step ends with the last of these tokens, or None; no shorter part of them may have ended it."""
    last = token_ids[-1]
    if last in eos_token_ids:
        return FinishReason.EOS
    if "\n" in decode([last]) and STEP_DELIMITER in decode(token_ids):
        return FinishReason.DELIMITER
    return FinishReason.LENGTH if len(token_ids) >= max_tokens else None
