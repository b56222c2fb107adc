"""Write the problems by which the shipped router is trained: ``python -m training.router_problems > problems.jsonl``.

They are of the split "train", drawn anew: neither held-out problems nor those that the models' cards were measured on.
"""

from __future__ import annotations

import argparse
import json
import random

from training.task import draw_distinct_problems


def main() -> None:
    """Read the command line, and write a line of JSON for each problem, as ``models/heldout.jsonl`` has them."""
    parser = argparse.ArgumentParser(prog="python -m training.router_problems", description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for problem in draw_distinct_problems(random.Random(f"{given.seed} router"), given.count, "train"):
        print(json.dumps({"prompt": problem.prompt, "expected": str(problem.answer)}))


if __name__ == "__main__":
    main()
