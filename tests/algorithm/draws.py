"""What jobs draw that differ only in their seeds, and whether that follows a law."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from scipy.stats import chisquare

from gsi.algorithm.candidates import Source
from gsi.algorithm.params import Params
from gsi.algorithm.round import Round
from tests.algorithm.worlds import World, make_first_round

T = TypeVar("T", bound=Hashable)

LEAST_P = 1e-4  # seeds are fixed: draws of the right law pass always or, for one test of 10,000, never
LEAST_EXPECTED = 5.0  # draws of an outcome, for the chi-square test; rarer outcomes are counted together


def p_value(law: Mapping[T, float], draws: Sequence[T]) -> float:
    """Return the p-value of a chi-square test of draws against their law; 0 if a draw is impossible."""
    assert math.isclose(sum(law.values()), 1)
    observed = Counter(draws)
    if any(law.get(outcome, 0.0) == 0 for outcome in observed):
        return 0.0
    counts, expected = [0], [0.0]
    for outcome in sorted(law, key=lambda one: law[one]):
        if expected[-1] > LEAST_EXPECTED:
            counts.append(0)
            expected.append(0.0)
        counts[-1] += observed[outcome]
        expected[-1] += law[outcome] * len(draws)
    assert min(expected) > LEAST_EXPECTED, "too few draws for a chi-square test"
    return float(chisquare(counts, expected).pvalue) if len(counts) > 1 else 1.0


async def first_rounds(world: World, params: Params, num_draws: int) -> list[Round]:
    """Make the first round of ``num_draws`` jobs."""
    ports = world.ports()
    return [await make_first_round(params, ports, seed) for seed in range(num_draws)]


def steps(rounds: Sequence[Round]) -> list[int]:
    """Return the kept step of each round."""
    return [made.step.token_ids[0] for made in rounds]


def written_steps(rounds: Sequence[Round]) -> list[tuple[Source, int]]:
    """Return who wrote the kept step of each round, and the step."""
    return [(made.step.source, made.step.token_ids[0]) for made in rounds]
