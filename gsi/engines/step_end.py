"""Where a step ends. The delimiter may be one token or several, so the decoded text decides."""

from collections.abc import Callable, Collection, Sequence

from gsi.algorithm.candidates import FinishReason
from gsi.engines.base import STEP_DELIMITER

Decode = Callable[[Sequence[int]], str]


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
