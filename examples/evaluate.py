"""An evaluation from Python: which method, and at what price?

The program runs two methods on six held-out problems through the queue, grades the answers, and prints a table:
accuracy, the share of accepted steps, and the tokens that each model wrote for a problem. It uses the system that
`GSI_REDIS_URL` names, or the system on this machine, or starts a system of its own. `gsi eval` does the same from a
shell. A second run with the same folder resumes where the first run stopped.
"""

import asyncio
import os
import sys
from pathlib import Path

from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.session import System, begin, evaluate

PLAN = Plan(dataset="arithmetic", limit=6, methods=("gsi", "soft-best-of-n:target"), ns=(4,), seeds=1)


async def main(path: Path) -> None:
    """Run the plan and print a row for each method."""
    folder, system = Folder(path), System(os.environ.get("GSI_REDIS_URL"))
    run, problems = begin(PLAN, folder, system)
    outcome = await evaluate(run, problems, folder, system)
    print(f"{'method':<22} {'accuracy':>8} {'accepted':>8} {'draft':>6} {'target':>6}")
    for row in outcome.rows:
        tokens, rate = row.tokens_per_problem, row.acceptance_rate
        accepted = f"{rate.value:.0%}" if rate else "-"
        print(
            f"{row.label:<22} {row.accuracy.value:>8.0%} {accepted:>8}"
            f" {tokens.draft_written:>6.0f} {tokens.target_written:>6.0f}"
        )
    print(f"report: {outcome.folder / 'report.md'}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "gsi-eval/example")))
