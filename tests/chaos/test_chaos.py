"""The short form of ``make chaos``: every row of the table, on one stack; and the harness's own arithmetic."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.harness import Chaos, Kill
from tests.chaos.kills import repeated_per_kill
from tests.chaos.rows import ROWS, run_row
from tests.chaos.sizes import SHORT

SEED = 1
NUM_SECONDS = 300  # of a row with what starts before it; a machine with all to itself needs a tenth


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chaos(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chaos]:
    async with Chaos(tmp_path_factory.mktemp("chaos"), SHORT) as running:
        await running.references()
        yield running


@pytest.mark.timeout(NUM_SECONDS)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ROWS)
async def test_a_promise_is_kept_under_its_fault(chaos: Chaos, name: str) -> None:
    """Nothing lost, nothing twice, no answer that differs from the undisturbed run's, and what the row says besides."""
    found = await run_row(chaos, name, SHORT, SEED, SHORT.row_seconds)
    assert found["problems"] == []
    assert (found["lost"], found["duplicated"], found["different_answers"]) == (0, 0, 0)
    assert found["jobs"] > 0


@pytest.mark.parametrize(
    ("calls", "kills", "worst"),
    [
        ([(1, 0), (2, 1), (3, 2)], [], 0),
        ([(1, 0), (2, 1), (3, 1)], [2.5], 1),
        ([(1, 0), (2, 1), (3, 0), (4, 1)], [2.5], 2),  # it began again from its first step
        ([(1, 0), (2, 1), (3, 0), (4, 1)], [2.5, 3.5], 1),
        ([(1, 0), (2, 0)], [], 2),  # repeated for no reason
    ],
)
def test_repeated_steps_are_counted_for_each_kill(
    calls: list[tuple[float, int]], kills: list[float], worst: int
) -> None:
    """By hand: (time, step index) of one job, and when a coordinator was killed that was back at once."""
    made = [(at, 7, index) for at, index in calls]
    assert repeated_per_kill(made, [Kill("coordinator-1", at, at) for at in kills]) == worst
