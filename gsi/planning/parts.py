"""In which parts a model is asked for the candidates of a step: all at once, or fewer where a method ends some early.

A part stands for one call in each of ``share`` steps. The parts of a step follow one another.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gsi.algorithm.methods.speculative_rejection import count_rejected, has_room
from gsi.algorithm.n_rule import part_ends
from gsi.algorithm.params import Params
from gsi.errors import InvalidRequestError
from gsi.planning.calls import Calls, EarlyEnds
from gsi.planning.quantities import OPTIONS, Quantity


@dataclass(frozen=True, slots=True)
class Part:
    """Candidates that are asked for together, and how often a step asks for them."""

    num_rows: int
    share: float = 1.0


def plan_parts(label: str, calls: Calls, n: int, num_steps: float, known: Mapping[Quantity, float]) -> tuple[Part, ...]:
    """Return the parts of a method's step, with the defaults of its parameters.

    Raises InvalidRequestError for a quantity that the method cannot have at this n.
    """
    if calls.has_n_rule:
        return plan_parts_by_rule(label, n, known[Quantity.MEAN_N])
    match calls.early_ends:
        case EarlyEnds.BY_CONFIDENCE:
            return plan_vote(label, n, known[Quantity.WRITTEN])
        case EarlyEnds.BY_REJECTION if Quantity.WRITTEN in known:
            return spread_rows(n * known[Quantity.WRITTEN])
        case EarlyEnds.BY_REJECTION:
            return plan_rejection(n, num_steps)
    return (Part(n),)


def plan_parts_by_rule(label: str, n: int, mean_n: float) -> tuple[Part, ...]:
    """Return the parts of adaptive n that have this mean, if each part is enough with the same probability.

    With s the probability that another part is asked for, and parts of a, b and c candidates, a + b s + c s^2 is the
    mean. Raises InvalidRequestError unless it is from a to n.
    """
    ends = part_ends(n)
    if not ends[0] <= mean_n <= n:
        raise InvalidRequestError(
            f"{OPTIONS[Quantity.MEAN_N]}: {label}={mean_n:g} is not allowed at n = {n}; "
            f"allowed: a number from {ends[0]}, the first part, to {n}"
        )
    sizes = [end - before for before, end in zip([0, *ends], ends, strict=False)]
    _, b, c = [*sizes, 0, 0][:3]
    left = mean_n - ends[0]
    share = 2 * left / (b + math.sqrt(b * b + 4 * c * left)) if left else 0.0
    return tuple(Part(size, share**index) for index, size in enumerate(sizes) if share**index > 0)


def plan_vote(label: str, n: int, written: float) -> tuple[Part, ...]:
    """Return the parts of a confidence vote: the warm-up to its end, then what is left of the written share.

    The others are taken to grow as long as the warm-up does, by fewer rows: the tokens are those of ``written``, and
    the rounds an upper bound. Raises InvalidRequestError if less is written than the warm-up.
    """
    warm_up = Params(n=n).num_warm_up_responses
    if n * written < warm_up:
        raise InvalidRequestError(
            f"{OPTIONS[Quantity.WRITTEN]}: {label}={written:g} is not allowed at n = {n}; "
            f"allowed: a number from {warm_up / n:g}, the warm-up, to 1"
        )
    return (Part(warm_up), *spread_rows(n * written - warm_up))


def plan_rejection(n: int, num_steps: float) -> tuple[Part, ...]:
    """Return the parts of speculative rejection if all responses have ``num_steps`` steps: none ends by itself before.

    Then its rule alone, which looks at numbers of steps, says how many responses grow in each round.
    """
    params, num_growing = Params(n=n), n
    rounds: dict[int, float] = {}
    for num_made in range(1, math.ceil(num_steps) + 1):
        rounds[num_growing] = rounds.get(num_growing, 0.0) + min(1.0, num_steps - (num_made - 1))
        if not has_room(num_growing, num_made + 1, params):
            num_growing -= count_rejected(num_growing, params)
    return tuple(Part(rows, count / num_steps) for rows, count in rounds.items())


def spread_rows(mean: float) -> tuple[Part, ...]:
    """Return whole numbers of rows whose mean is this number: the two around it."""
    below = math.floor(mean)
    above = mean - below
    return tuple(Part(rows, share) for rows, share in ((below, 1 - above), (below + 1, above)) if rows and share)
