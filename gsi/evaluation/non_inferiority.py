"""The cheapest choice that is shown to be hardly less accurate than the best: a test of non-inferiority."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from gsi.errors import InvalidRequestError
from gsi.evaluation.estimates import Estimate, estimate_difference

DEFAULT_MARGIN = 0.01  # of accuracy: what a cheaper choice may lose


class Measured(Protocol):
    """A choice that was run: the mean accuracy of each problem over its seeds, and the cost (in any one unit)."""

    @property
    def accuracy_by_problem(self) -> Mapping[str, float]: ...

    @property
    def accuracy(self) -> float: ...

    @property
    def cost(self) -> float: ...


M = TypeVar("M", bound=Measured)


def estimate_lost_accuracy(measured: Measured, best: Measured) -> Estimate:
    """Return by how much ``best`` is more accurate, over the problems that both answered, with a 95 % interval.

    Raises InvalidRequestError if there are none.
    """
    common = sorted(measured.accuracy_by_problem.keys() & best.accuracy_by_problem.keys())
    if not common:
        raise InvalidRequestError(
            "measured: settings with different problems; allowed: settings with at least one problem in common"
        )
    return estimate_difference([best.accuracy_by_problem[p] - measured.accuracy_by_problem[p] for p in common])


def find_best(measured: Sequence[M]) -> M:
    """Return the most accurate choice, of equals the cheapest. Raises InvalidRequestError for none."""
    if not measured:
        raise InvalidRequestError("measured: nothing was measured; allowed: at least one setting")
    return max(measured, key=lambda one: (one.accuracy, -one.cost))


def recommend(measured: Sequence[M], margin: float = DEFAULT_MARGIN) -> M:
    """Return the cheapest choice that is shown to be not inferior to the most accurate one, else that one itself.

    "Shown" means that the paired 95 % interval of ``estimate_lost_accuracy`` ends at or below ``margin``, a share: a
    test of non-inferiority at 2.5 %. Few problems show little, and then the best is returned, not the cheapest. Of
    equal costs the more accurate wins, of equals the first. The best was chosen by the same answers, which makes the
    test stricter; several choices compared at once are not corrected for. Raises InvalidRequestError for none.
    """
    best = find_best(measured)
    good = [one for one in measured if one is best or estimate_lost_accuracy(one, best).high <= margin]
    return min(good, key=lambda one: (one.cost, -one.accuracy))
