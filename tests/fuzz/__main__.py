"""``python -m tests.fuzz``: 200,000 requests at three services; exit status 1 if one of them was harmed.

With ``--json`` standard output has one JSON object and nothing else.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.add_argument("--requests", type=int, default=200_000, help="how many; default: 200,000")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after so many with the requests made so far")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gsi-fuzz-"))
    print(f"logs: {folder}", file=sys.stderr, flush=True)
    found = run(given.requests, given.seconds, given.seed, folder)
    if given.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
