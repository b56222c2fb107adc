"""``python -m tests.chaos``: every row of the table, one after the other; exit status 1 if a promise was broken.

Progress and problems go to standard error. With ``--json`` standard output has one JSON object and nothing else.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos.harness import Chaos
from tests.chaos.rows import ROWS, run_row
from tests.chaos.sizes import FULL, SHORT, Size

SUMS = (
    *("jobs", "kills", "lost", "duplicated", "different_answers"),
    *("healthy_dead", "orphans", "consumers_left", "schedules"),
)


async def run(names: list[str], size: Size, seed: int, folder: Path) -> dict[str, Any]:
    """Run rows; return their sums, and each row's own numbers."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    rows: list[dict[str, Any]] = []
    _say(f"logs: {folder}")
    async with Chaos(folder, size) as chaos:
        async with asyncio.timeout(size.row_seconds):
            await chaos.references()
        for name in names:
            _say(f"{name} …")
            rows.append(await run_row(chaos, name, size, seed, started + size.total_seconds - loop.time()))
            _say(f"{name}: {json.dumps(rows[-1])}")
    sums = {name: sum(row[name] for row in rows) for name in SUMS}
    return {
        "seed": seed,
        **sums,
        "max_steps_repeated_per_kill": max(row["max_steps_repeated_per_kill"] for row in rows),
        "seconds": round(loop.time() - started, 1),
        "passed": all(row["passed"] for row in rows),
        "rows": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.add_argument("--short", action="store_true", help="the form of make test: about two minutes")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    parser.add_argument("--row", choices=list(ROWS), action="append", help="only this row; may be given again")
    parser.add_argument("--folder", type=Path, help="where logs stay; default: a temporary folder that stays, too")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="gsi-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(run(given.row or list(ROWS), SHORT if given.short else FULL, given.seed, folder))
    if given.json:
        print(json.dumps(found))
    else:
        print(_table(found))
    return 0 if found["passed"] else 1


def _table(found: dict[str, Any]) -> str:
    lines = [
        f"{row['row']:12} {'passed' if row['passed'] else 'FAILED'}  {row['seconds']:6.1f} s  {row['jobs']:6} jobs  "
        f"{row['kills']:3} kills  {row['lost']} lost  {row['duplicated']} duplicated  "
        f"{row['different_answers']} different  {row['healthy_dead']} dead  {row['orphans']} orphans  "
        f"{row['consumers_left']} consumers left" + "".join(f"\n    {problem}" for problem in row["problems"])
        for row in found["rows"]
    ]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
