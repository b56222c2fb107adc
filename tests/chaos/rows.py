"""The rows of the table, by name, and how one is run."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from random import Random
from typing import Any

from tests.chaos.commands import commands
from tests.chaos.connections import connections
from tests.chaos.harness import Chaos
from tests.chaos.kills import kills
from tests.chaos.outcome import LeftBehind, Outcome
from tests.chaos.payloads import payloads
from tests.chaos.poison import poison
from tests.chaos.restarts import restarts
from tests.chaos.sizes import Size
from tests.chaos.stops import stops

ROWS: Mapping[str, Callable[[Chaos, Size, Random], Awaitable[Outcome]]] = {
    row.__name__: row for row in (kills, stops, restarts, connections, payloads, poison, commands)
}


async def run_row(chaos: Chaos, name: str, size: Size, seed: int, seconds_left: float) -> dict[str, Any]:
    """Run a row within its time, and within what is left of all.

    Returns what it found, with ``row``, ``passed`` and ``seconds``. A row that raises has failed; the next one runs.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    limit = min(size.row_seconds, seconds_left)
    try:
        async with asyncio.timeout(limit):
            chaos.left_behind = LeftBehind()
            await chaos.all_up()
            outcome = await ROWS[name](chaos, size, Random(f"{seed}/{name}"))
    except TimeoutError:
        outcome = Outcome(problems=[f"not over after {limit:.0f} s"])
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome(problems=[f"broke off: {error!r}"])
    chaos.left_behind.note(outcome)
    seconds = round(loop.time() - started, 1)
    return {"row": name, "passed": not outcome.problems, "seconds": seconds, **asdict(outcome)}
