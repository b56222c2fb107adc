"""Checks of a runtime's log-probabilities. A wrong one comes without an error, and looks like a right one."""

import math
from collections.abc import Sequence

ROUNDING = 1e-3  # nats above 0 that rounding may add to the log-probability of a certain token
UNSOUND = "the runtime gave log-probabilities that are positive, not numbers, or of other tokens"


def sum_if_sound(values: Sequence[float], of: Sequence[int], token_ids: Sequence[int]) -> float | None:
    """Return the sum of log-probabilities (nats, at most 0); None if they cannot be those of ``token_ids``.

    ``of``: the token id of each value. No value may be missing, positive, not a number, or of another token.
    """
    if len(values) != len(token_ids) or list(of) != list(token_ids):
        return None
    is_sound = all(value <= ROUNDING for value in values)  # NaN compares as false
    return min(math.fsum(values), 0.0) if is_sound else None
