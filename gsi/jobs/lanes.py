"""Which lane the next job comes from: high before normal before low, with a share for the lower ones."""

from collections import Counter
from itertools import cycle

from gsi.jobs.keys import Priority

# Of ten slots six go to the high lane, three to the normal one, one to the low one, where each has jobs; what a lane
# does not use goes to the others, in order. So none starves, however full the lanes above it are.
TURNS = "HHNHHNHHNL"
_LANES = {"H": Priority.HIGH, "N": Priority.NORMAL, "L": Priority.LOW}


class Turns:
    """Hands out the turns of the lanes, one a slot."""

    def __init__(self) -> None:
        self._turns = cycle(_LANES[turn] for turn in TURNS)

    def next(self, count: int) -> dict[Priority, int]:
        """Return how many of the next ``count`` slots each lane may fill first, in the order of the lanes."""
        given = Counter(next(self._turns) for _ in range(count))
        return {priority: given[priority] for priority in Priority}
